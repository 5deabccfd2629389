"""What decides which weights go: a pruner for each score."""
