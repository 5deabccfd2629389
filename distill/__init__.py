"""The loop and what surrounds it; ``run`` does what a YAML file says."""

from distill.run import run

__all__ = ["run"]
