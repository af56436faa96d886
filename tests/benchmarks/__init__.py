"""How long a training step takes, here and elsewhere: ``python tests/benchmarks/run.py --help``."""
