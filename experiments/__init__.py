"""Longer runs on real data; their results are committed beside them, in `results/`."""
