"""The built-in layers, one family per file."""
