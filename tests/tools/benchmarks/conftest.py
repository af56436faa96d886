"""Benchmarks are not tests, and the libraries that they compare may be missing, so pytest collects nothing here."""

collect_ignore_glob = ["*"]
