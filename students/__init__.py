"""Students: how a smaller model is built from a teacher, and where each model family keeps its parts."""

import sys
from importlib import import_module

# A script that imports this to load a student finds transformers ready for it. That takes seconds, so the command,
# which may find a misspelt key first, goes without: there, what loads a model (students.loading) makes it ready.
if "distill.cli" not in sys.modules:
    import_module("students.loading.own_models")
