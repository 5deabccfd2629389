"""Serving: load what a run has left, and answer about new texts."""
