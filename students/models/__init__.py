"""Models that transformers does not have: recurrent networks, static models, and compact Transformers."""
