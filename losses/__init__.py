"""Losses on labels, logits, hidden states, attention and relations between tokens.

Importing the package imports its modules, so that a config can name their classes.
"""

from importlib import import_module
from pkgutil import walk_packages

for module in walk_packages(__path__, f"{__name__}."):
    import_module(module.name)
