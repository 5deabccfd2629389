"""What a run was begun with: models, rows and versions, so that it goes on with the same or not at all."""

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


def origin(experiment: Experiment, planned: Plan) -> dict[str, Any]:
    """What decides about the steps of a run and does not stand in its config, as plain data.

    ``models`` are fingerprints by the key of the config; ``imports`` those of the user's modules; ``rows`` the number
    and the fingerprint of the rows of each split, as ids and labels.
    """
    parts = planned.parts
    single = len(experiment.teachers()) == 1
    models = {
        "teacher" if single else f"teacher.members.{name}": fingerprint(teacher.model)
        for name, teacher in parts.teachers.items()
    }
    if hasattr(experiment.student, "model"):
        models["student"] = fingerprint(parts.student)
    return {
        "models": models,
        "rows": {name: [len(rows), rows_fingerprint(rows)] for name, rows in parts.rows.items()},
        "imports": fingerprints(experiment.imports),
        "versions": versions() | {"distill-compress": _own_version()},
        "processes": planned.trainer.world_size,
        "steps": [planned.timeline.total_steps, planned.timeline.epoch_steps],
    }


def compare(config: Config[Experiment], folder: Path, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Compares what a run was begun with and what it is to go on with; returns notes for the report.

    Raises:
        ConfigError: at the first thing that would make it another run.
    """
    begun, advice = f"the run in {folder} was begun with", "resume it with the same, or give this one another --name"
    for key, value in new["models"].items():
        if old["models"].get(key) != value:
            raise config.error(key, f"model: is not the model that {begun} (other weights or config); {advice}")
    for split, (count, value) in new["rows"].items():
        before, fingerprint_before = old["rows"].get(split, [0, ""])
        if (before, fingerprint_before) != (count, value):
            how = f"{before} then, {count} now" if before != count else f"{count} as then, with other ids or labels"
            raise config.error("task", f"data: the {split} rows are not those that {begun} ({how}); {advice}")
    for module, value in new["imports"].items():
        if old.get("imports", {}).get(module, value) != value:
            why = f"the code of {module} is not that with which {begun.removesuffix(' with')}"
            raise config.error("imports", f"{why} (comments and docstrings do not count); {advice}")
    if old["steps"] != new["steps"]:
        told = ["{} steps, {} an epoch".format(*one["steps"]) for one in (new, old)]
        raise config.error("trainer", f"the run would have {told[0]}, and {told[1]} when it was begun; {advice}")
    notes = [
        f"begun with {name} {old['versions'].get(name)}, resumed with {value}: equal up to rounding at best"
        for name, value in new["versions"].items()
        if old["versions"].get(name) != value
    ]
    if old["processes"] != new["processes"]:
        notes.append(
            f"begun on {old['processes']} processes, resumed on {new['processes']}: the same global batches, equal up "
            f"to rounding; dropout and the ranges of rounded inputs are those of a process"
        )
    return notes


def rows_fingerprint(rows: Dataset) -> str:
    """A hash of the values of all columns, in the order of the rows, however they lie in memory."""
    found = hashlib.blake2b(digest_size=8)
    for name in sorted(rows.column_names):
        found.update(f"{name} {rows.features[name]}\n".encode())
        for table in rows.select_columns(name).with_format("arrow").iter(batch_size=10_000):
            _add(found, table.column(name).combine_chunks())
    return found.hexdigest()


def _add(found: Any, values: pa.Array | pa.ChunkedArray) -> None:
    """Adds an array: of lists their lengths and then what is in them."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if values.null_count == 0 and (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        found.update(pc.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
        _add(found, values.flatten())
    elif values.null_count == 0 and (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        found.update(values.to_numpy(zero_copy_only=False).tobytes())
    else:
        found.update(repr(values.to_pylist()).encode())


def _own_version() -> str:
    try:
        return version("distill-compress")
    except PackageNotFoundError:
        return "not installed"
