"""The runs of a file, as their config says: read, named, and each with its folder; nothing of a run itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.config.loader import Config, load_all
from distill.experiment.experiment import Experiment


def read_runs(file: str | Path, overrides: dict[str, Any]) -> list[Config[Experiment]]:
    """The runs of a file, each with its name; an override holds for all of them.

    Where ``output`` is overridden, what later runs say of the folders of earlier ones follows.

    Raises:
        ConfigError: at the first mistake; also if one of several runs has no name, or that of another.
    """
    configs = load_all(file, Experiment, overrides)
    if len(configs) == 1:
        configs[0].value.name = configs[0].value.name or Path(file).stem
        return configs
    seen = {}
    for config in configs:
        name = config.value.name
        if name is None:
            raise config.error("name", "is missing; of several runs in a file each has one")
        if name in seen:
            raise config.error("name", f"{name!r} is the name of another run of the file ({seen[name]})")
        seen[name] = config.locations["name"]
    if "output" not in overrides:
        return configs
    written = load_all(file, Experiment, {key: value for key, value in overrides.items() if key != "output"})
    moved = {folder_of(old.value): str(folder_of(new.value)) for old, new in zip(written, configs, strict=True)}
    for config in configs:
        rename_models(config.value, moved)
    return configs


def folder_of(experiment: Experiment) -> Path:
    """Where a run puts what it makes."""
    return Path(experiment.output) / experiment.name


def model_holders(experiment: Experiment) -> list[Any]:
    """What names a model: the teachers, and a student that exists."""
    students = [experiment.student] if hasattr(experiment.student, "model") else []
    return [*experiment.teachers().values(), *students]


def rename_models(experiment: Experiment, names: dict[Path, str]) -> None:
    """Gives the models that stand in these folders these names."""
    for holder in model_holders(experiment):
        holder.model = names.get(Path(holder.model), holder.model)
