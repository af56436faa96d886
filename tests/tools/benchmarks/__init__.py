"""How long a training step takes, here and elsewhere: ``python tests/tools/benchmarks/run.py --help``."""
