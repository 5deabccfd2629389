"""Tasks: columns of the data, model heads, predictions and metrics."""

import distill.tasks.kinds  # noqa: F401 — a config may name each of them
