"""Facts of the supported model families."""
