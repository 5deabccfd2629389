"""Tasks whose outputs are the tokens of a vocabulary."""
