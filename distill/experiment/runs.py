"""Read the configs of the runs in a file, and their names and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.config.loader import Config, load_all
from distill.experiment.compatibility import check_compatibility
from distill.experiment.components import components
from distill.experiment.experiment import Experiment


def read_runs(file: str | Path, overrides: dict[str, Any]) -> list[Config[Experiment]]:
    """Return the configs of the runs in a file, with the overrides in all of them.

    If ``output`` is overridden, paths of earlier runs in later ones are changed too.

    Raises:
        ConfigError: at the first mistake; also if one of several runs has no name, or the name of another.
    """
    configs = load_all(file, Experiment, overrides)
    for config in configs:
        check_compatibility(config, components(config.value))
    if len(configs) == 1:
        configs[0].value.name = configs[0].value.name or Path(file).stem
        return configs
    locations = {}
    for config in configs:
        name = config.value.name
        if name is None:
            raise config.error("name", "is missing; each of several runs in a file needs one")
        if name in locations:
            raise config.error("name", f"{name!r} is the name of another run of the file ({locations[name]})")
        locations[name] = config.locations["name"]
    if "output" not in overrides:
        return configs
    originals = load_all(file, Experiment, {key: value for key, value in overrides.items() if key != "output"})
    moved = {folder_of(old.value): str(folder_of(new.value)) for old, new in zip(originals, configs, strict=True)}
    for config in configs:
        rename_models(config.value, moved)
    return configs


def folder_of(experiment: Experiment) -> Path:
    """Return the run folder."""
    return Path(experiment.output) / experiment.name


def model_holders(experiment: Experiment) -> list[Any]:
    """Return the settings with a ``model``: the teachers and a pretrained student."""
    students = [experiment.student] if hasattr(experiment.student, "model") else []
    return [*experiment.teachers().values(), *students]


def rename_models(experiment: Experiment, names: dict[Path, str]) -> None:
    """Replace model names that are a key of ``names``."""
    for holder in model_holders(experiment):
        holder.model = names.get(Path(holder.model), holder.model)
