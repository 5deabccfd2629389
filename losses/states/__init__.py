"""Losses on hidden states."""
