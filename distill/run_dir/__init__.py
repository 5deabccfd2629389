"""The run folder: atomic writes, lock, and errors of the file system."""
