"""Importing this makes transformers know the models that are ours; it takes seconds."""

import students.models.compact
import students.models.recurrent_models  # noqa: F401 — imported for what it registers
