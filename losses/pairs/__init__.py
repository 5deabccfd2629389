"""Losses on pairs of tokens: attention, and relations inside queries, keys and values."""
