"""Derive the facts of a family that no table lists."""
