"""Models that transformers does not have: recurrent networks, and Transformers of a form of their own."""
