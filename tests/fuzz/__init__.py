"""Coverage-guided fuzzing of whatever reads files: ``python tests/fuzz/run.py --seconds 600``."""
