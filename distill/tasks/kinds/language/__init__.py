"""Tasks whose outputs are the tokens of a vocabulary: language models and sequence-to-sequence."""
