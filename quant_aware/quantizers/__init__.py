"""Rounding of weights and inputs in training: the values, and the gradient.

Importing the package imports its modules, so that a config may name each class of them.
"""

from importlib import import_module
from pkgutil import walk_packages

for module in walk_packages(__path__, f"{__name__}."):
    import_module(module.name)
