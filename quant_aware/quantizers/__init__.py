"""Rounding of weights and inputs in training: the values, and the gradient."""
