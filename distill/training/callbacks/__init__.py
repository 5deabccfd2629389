"""What happens beside the steps: checkpoints, curves, stops at numbers that are not finite."""
