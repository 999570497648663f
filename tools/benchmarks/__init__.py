"""Benchmarks: parts of the suite beside the usual way to do the same, in one run."""
