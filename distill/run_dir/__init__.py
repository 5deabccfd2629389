"""The folder of a run and the file system under it."""
