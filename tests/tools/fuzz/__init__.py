"""Coverage-guided fuzzing of all file readers: ``python tests/tools/fuzz/run.py --seconds 600``."""
