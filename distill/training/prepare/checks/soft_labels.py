"""Check the soft labels of training rows: how many there are, and whether the losses are finite on them."""

from __future__ import annotations

from datasets import DatasetDict

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.tasks.soft_labels import KEY, SoftLabels
from distill.teachers.recorded import has_zeros, recorded_values


def check_soft_labels(config: Config[Experiment], rows: DatasetDict) -> list[str]:
    """Return notes on rows without soft labels.

    Raises:
        ConfigError: if no training row has them, or a loss is infinite where a probability is 0 and a row has one.
    """
    experiment, notes = config.value, []
    labels: SoftLabels | None = getattr(experiment.task, "soft_labels", None)
    if not labels:
        return []
    for split, table in rows.items():
        name = "training" if split == "train" else split
        if KEY not in table.column_names:
            notes.append(f"teacher: the {name} rows have no columns of it, so it is not evaluated on them")
            continue
        logits = recorded_values(experiment.task, table, KEY).double()
        empty = int(logits.isnan().any(-1).sum())
        if split == "train":
            if empty == len(logits):
                raise config.error("teacher", "columns: are empty in all training rows")
            if experiment.task.problem != "regression":
                _check_zeros(config, int(has_zeros(logits, labels.temperature).sum()), len(logits))
        if empty:
            effect = "their labels stand in" if split == "train" else "the teacher is not evaluated on them"
            notes.append(f"teacher: {empty:,} of {len(logits):,} {name} rows have no soft labels; {effect}")
    return notes


def _check_zeros(config: Config[Experiment], zeros: int, rows: int) -> None:
    for name, loss in config.value.losses.items():
        if zeros and loss.is_infinite_at_zero:
            found = f"{zeros:,} of {rows:,} training rows have one, or a label in place of empty columns"
            reason = f"kind: is infinite where the teacher's probability of a class is 0, and {found}"
            raise config.error(f"losses.{name}", f"{reason}; Logits and JensenShannon are finite")
