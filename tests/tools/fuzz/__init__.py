"""Coverage-guided fuzzing of whatever reads files: ``python tests/tools/fuzz/run.py --seconds 600``."""
