"""Where each model family keeps its parts."""
