"""The parts of a model as numbers: units, sizes, factors, shared layers; cutting and taking over."""
