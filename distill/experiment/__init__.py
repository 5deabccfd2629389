"""What a run can be told: the keys of a YAML file, and the help about them."""
