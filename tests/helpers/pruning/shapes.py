"""The shapes of units, and a timeline for pruners of them."""

SHAPES = {"neurons", "heads"}
BRANCHES = SHAPES | {"layers"}
