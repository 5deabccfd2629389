"""Relations between pairs of tokens: attention, and inside queries, keys and values."""
