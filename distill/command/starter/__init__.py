"""``distill init``: a first config, from a model and data."""
