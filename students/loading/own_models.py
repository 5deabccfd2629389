"""Importing this makes transformers know the models that are ours; it takes seconds."""

import students.forms.compact
import students.recurrent.model  # noqa: F401 — both are imported for what they register
