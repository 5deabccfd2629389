"""Sub-quadratic attention modules, which replace a model's own attention."""
