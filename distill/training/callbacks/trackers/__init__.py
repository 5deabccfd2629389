"""Loggers of a run: metrics.csv, and the trackers that a config names."""
