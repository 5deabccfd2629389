"""The tasks that a config can name.

Importing the package imports its modules, so that every task class is known by its name.
"""

from importlib import import_module
from pkgutil import walk_packages

for module in walk_packages(__path__, f"{__name__}."):
    import_module(module.name)
