"""From a name or a file to rows that are checked, labelled and turned into tokens."""

from distill.data.files import read
from distill.data.rows import encode, prepare
from distill.tasks.facts import DataFacts, FileFacts, Truncation

__all__ = ["DataFacts", "FileFacts", "Truncation", "encode", "prepare", "read"]
