"""Fingerprints of models, rows, code and versions: a resumed run must have the same."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from distill.config.config import Config
from distill.config.imports import fingerprints
from distill.evaluation.machine import versions
from distill.experiment.experiment import Experiment
from distill.teachers.cache import fingerprint
from distill.training.prepare.plan import Plan


def origin(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    """Return everything outside the config that determines the steps of a run, as plain data.

    ``models`` holds fingerprints by config key; ``imports`` those of the user's modules; ``rows`` number and
    fingerprint of the rows of each split, as ids and labels.
    """
    parts = plan.parts
    models = {experiment.teacher_key(name): fingerprint(teacher.model) for name, teacher in parts.teachers.items()}
    if hasattr(experiment.student, "model"):
        models["student"] = fingerprint(parts.student)
    return {
        "models": models,
        "rows": {name: [len(rows), rows_fingerprint(rows)] for name, rows in parts.rows.items()},
        "imports": fingerprints(experiment.imports),
        "versions": versions() | {"distill-compress": _own_version()},
        "processes": plan.trainer.world_size,
        "steps": [plan.timeline.total_steps, plan.timeline.epoch_steps],
    }


def compare(config: Config[Experiment], folder: Path, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Compare the fingerprints of a run's start with those of its resumption.

    Returns:
        Notes for the report: other versions or numbers of processes.

    Raises:
        ConfigError: at the first difference that would change the steps.
    """
    begun, advice = f"the run in {folder} was begun with", "resume it with the same, or give this one another --name"
    for key, value in new["models"].items():
        if old["models"].get(key) != value:
            raise config.error(key, f"model: is not the model that {begun} (other weights or config); {advice}")
    for split, (count, value) in new["rows"].items():
        old_count, old_value = old["rows"].get(split, [0, ""])
        if (old_count, old_value) != (count, value):
            counts = f"{old_count} then, {count} now"
            change = counts if old_count != count else f"{count} as then, with other ids or labels"
            raise config.error("task", f"data: the {split} rows are not those that {begun} ({change}); {advice}")
    for module, value in new["imports"].items():
        if old.get("imports", {}).get(module, value) != value:
            message = f"the code of {module} is not that with which {begun.removesuffix(' with')}"
            raise config.error("imports", f"{message} (comments and docstrings do not count); {advice}")
    if old["steps"] != new["steps"]:
        now, then = ("{} steps, {} an epoch".format(*facts["steps"]) for facts in (new, old))
        raise config.error("trainer", f"the run would have {now}, and {then} when it was begun; {advice}")
    notes = [
        f"begun with {name} {old['versions'].get(name)}, resumed with {value}: equal up to rounding at best"
        for name, value in new["versions"].items()
        if old["versions"].get(name) != value
    ]
    if old["processes"] != new["processes"]:
        notes.append(
            f"begun on {old['processes']} processes, resumed on {new['processes']}: the same global batches, equal up "
            f"to rounding; dropout and activation ranges are those of a process"
        )
    return notes


def rows_fingerprint(rows: Dataset) -> str:
    """Return a hash of the values of all columns in row order, independent of their memory layout."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(rows.column_names):
        digest.update(f"{name} {rows.features[name]}\n".encode())
        for table in rows.select_columns(name).with_format("arrow").iter(batch_size=10_000):
            _update(digest, table.column(name).combine_chunks())
    return digest.hexdigest()


def _update(digest: Any, values: pa.Array | pa.ChunkedArray) -> None:
    """Add an array to a hash; of lists their lengths, then their values."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if values.null_count == 0 and (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        digest.update(pc.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
        _update(digest, values.flatten())
    elif values.null_count == 0 and (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        digest.update(values.to_numpy(zero_copy_only=False).tobytes())
    else:
        digest.update(repr(values.to_pylist()).encode())


def _own_version() -> str:
    try:
        return version("distill-compress")
    except PackageNotFoundError:
        return "not installed"
