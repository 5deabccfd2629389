"""Teachers: a frozen model, an ensemble, a moving average, a peer; and the cache of a teacher's outputs."""
