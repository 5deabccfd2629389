"""The loop and what surrounds it; ``run`` does what a YAML file says."""

from distill.runner import run

__all__ = ["run"]
