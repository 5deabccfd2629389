"""Callbacks of Lightning: checkpoints, curves, the check for finite numbers, block replacement."""
