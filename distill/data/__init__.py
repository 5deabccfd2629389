"""Read a data set by name or path, check and label its rows, and tokenize them."""

from distill.data.files import read
from distill.data.rows import encode, prepare_data
from distill.tasks.facts import DataFacts, FileFacts, Truncation

__all__ = ["DataFacts", "FileFacts", "Truncation", "encode", "prepare_data", "read"]
