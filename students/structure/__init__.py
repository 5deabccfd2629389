"""The structure of a model: units, sizes, low-rank factors, shared layers; pruning and initialization."""
