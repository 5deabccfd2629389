"""Prune targets: entries, tiles, units and hidden dimensions, with their masks."""
