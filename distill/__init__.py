"""The loop and what surrounds it; ``run`` does what a YAML file says."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill.runner import run

__all__ = ["run"]

_HOMES = {"run": "distill.runner"}
"""The module of each public name, imported when the name is first used: the command line imports this package."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
