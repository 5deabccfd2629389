"""Attention that costs less than the square of the length: what stands in the place of a model's own."""
