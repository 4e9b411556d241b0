"""Metrics, their computation and the report."""
