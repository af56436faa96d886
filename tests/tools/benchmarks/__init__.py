"""Time training steps in funcnet and in other libraries: ``python tests/tools/benchmarks/run.py --help``."""
