"""Read YAML and overrides into objects; every error names its location."""
