"""Timings side by side, for `tools/benchmark.py`."""
