"""Students: smaller models built from a teacher, and what they need to know of model families."""

import sys
from importlib import import_module

# `import students` registers our models with transformers, so that a script can load them. That takes seconds, so the
# command skips it, to report a misspelt key first; there, students.loading registers them before it loads a model.
if "distill.command.main" not in sys.modules:
    import_module("students.loading.own_models")
