"""Cutting out for good what is masked."""
