"""From a name or a file to rows that are checked, labelled and turned into tokens."""

from distill.data.rows import encode, prepare, prepare_several, read

__all__ = ["encode", "prepare", "prepare_several", "read"]
