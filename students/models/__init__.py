"""Models that transformers does not have: recurrent networks, and compact Transformers."""
