"""YAML and overrides into objects, with the place of every mistake."""
