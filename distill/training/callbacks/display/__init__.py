"""The terminal of a run: its progress, its messages, and the silence of the libraries."""
