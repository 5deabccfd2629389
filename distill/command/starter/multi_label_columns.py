"""The columns of data in which a multi-label model's labels stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.tasks.columns import is_list, is_text, list_names, values_of

if TYPE_CHECKING:
    from datasets import Dataset

SEPARATORS = ("|", ";", ",")


def multi_label_columns(
    rows: Dataset, label: str | None, outputs: list[str], usual: Sequence[str]
) -> dict[str, str | list[str]]:
    """Return ``label`` and ``separator`` of the task: a column for each output, else one that lists labels.

    Args:
        rows: of training.
        label: the column of the labels; by default it is looked for.
        outputs: the names of the model's outputs.
        usual: names of columns of labels.

    Raises:
        ValueError: if there is none, or more than one.
    """
    lower = {name.lower(): name for name in rows.column_names}
    if label is None and all(output.lower() in lower for output in outputs):
        return {"label": [lower[output.lower()] for output in outputs]}
    types = {name: rows.data.schema.field(name).type for name in rows.column_names}
    found = [lower[name] for name in usual if name in lower] or [name for name, kind in types.items() if is_list(kind)]
    label = label or (found[0] if found else None)
    if label is None:
        raise ValueError(f"label: which column has the labels? --label names it; there are {list_names(list(types))}")
    cells = [str(cell) for cell in values_of(rows, label) if cell] if is_text(types[label]) else []
    if not cells or cells[0].startswith("["):
        return {"label": label}
    used = [separator for separator in SEPARATORS if any(separator in cell for cell in cells)]
    return {"label": label, "separator": used[0] if used else SEPARATORS[0]}
