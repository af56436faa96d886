"""Benchmarks are not tests, and the libraries that they compare with may be missing: pytest collects nothing here."""

collect_ignore_glob = ["*"]
