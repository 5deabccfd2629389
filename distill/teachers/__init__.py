"""Who is imitated: a frozen model, several, a moving average, a peer; and the cache of their outputs."""
