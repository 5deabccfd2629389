"""Importing this module registers our models with transformers; it takes seconds."""

import students.models.compact
import students.models.recurrent_models
import students.models.static_models  # noqa: F401 — imported for what it registers
