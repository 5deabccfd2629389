"""The config of a run: the keys of the YAML file, what can be combined, and the help."""
