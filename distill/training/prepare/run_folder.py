"""The folder of a run: never overwritten, one process at a time, and continued only as what it was begun as."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from lightning.pytorch.utilities import rank_zero_only

from distill.config.config import Config
from distill.config.errors import ConfigError
from distill.config.imports import KEY
from distill.config.loader import load
from distill.config.writer import dump
from distill.experiment.experiment import Experiment
from distill.run_dir import files
from distill.run_dir.lock import NAME as LOCK
from distill.run_dir.lock import RunDirLocked, lock, lock_owner
from distill.training.callbacks.checkpoints import Best, Last, previous, read_checkpoint, why_not

Resume = bool | Literal["auto"]
"""Whether to go on with the run in a folder; ``auto``: if one was begun there."""


@dataclass
class Start:
    """Where a run begins or goes on."""

    checkpoint: Path | None = None
    step: int = 0
    curve_rows: int = 0
    """How many rows metrics.csv had then."""
    origin: dict[str, Any] | None = None
    """What the run was begun with."""
    best_step: int | None = None
    damage: str = ""
    """Why it does not go on from the newest checkpoint."""
    stamps: tuple[int | None, ...] = (None, None)
    """When config and newest checkpoint were written, in nanoseconds."""

    def messages(self) -> list[str]:
        """What the user should know of it."""
        lines = [f"{self.damage}; {self.checkpoint.name} takes its place"] if self.damage else []
        return [*lines, f"goes on after step {self.step}"] if self.checkpoint else lines


def prepare_run_dir(config: Config[Experiment], folder: Path, resume: bool) -> Start:
    """Where to go on from; step 0 for a new run. Writes nothing.

    Raises:
        ConfigError: if the folder is taken, another process works in it, there is nothing to resume, or the config is
            not the one of the run.
    """
    if getattr(rank_zero_only, "rank", 0) == 0:
        if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
            raise config.error("output", f"{file} is a file, not a folder")
        if process := lock_owner(folder):
            raise _locked(config, folder, process)
        if resume and not begun(folder):
            raise config.error("name", f"there is no run in {folder} to resume")
        if not resume and _holds_something(folder):
            held, how = ("a run", "continue it with --resume, or ") if begun(folder) else ("files, but no run", "")
            raise config.error("name", f"the folder {folder} already holds {held}; {how}give this one another --name")
        if resume and (different := _difference(config, folder)):
            why = (
                f"is not what the run in {folder} was begun with; resume it unchanged, or give this one another --name"
            )
            raise config.error(different, why)
    return _newest(config, folder) if resume else Start()


def begun(folder: Path) -> bool:
    """Whether a run was begun in the folder."""
    return (folder / "config.yaml").exists()


def finished(folder: Path) -> bool:
    """Whether the run in the folder is done: its report, the last file to be written, is there."""
    return begun(folder) and (folder / "report.json").exists()


@contextmanager
def entered(config: Config[Experiment], folder: Path, start: Start) -> Iterator[None]:
    """Holds the folder, which is made if there is none, while the block runs; in it stays what ``start`` goes on from.

    Raises:
        ConfigError: if another process has come first, or the run is done and cannot go on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder):
            if _stamps(folder) != start.stamps:
                raise config.error("name", f"another process has worked in {folder} meanwhile; start this one again")
            if start.checkpoint is None and finished(folder):
                raise config.error("name", f"the run in {folder} is done, and no checkpoint is left to go on from")
            _settle(folder, start)
            yield
    except RunDirLocked as error:
        raise _locked(config, folder, str(error)) from error


def tidy(folder: Path) -> None:
    """Removes from the folder of a run that is done what only one that goes on needs."""
    for name in (Last.NAME, Best.NAME):
        files.remove(previous(folder / "checkpoints" / name))


def _holds_something(folder: Path) -> bool:
    """Whether there is more than what a process leaves that was killed before its run began."""
    return folder.exists() and any(path.name != LOCK and path.suffix != files.DRAFT for path in folder.iterdir())


def _locked(config: Config[Experiment], folder: Path, process: str) -> ConfigError:
    why = f"the run in {folder} is going on ({process}); wait for its end, or give this one another --name"
    return config.error("name", why)


def _newest(config: Config[Experiment], folder: Path) -> Start:
    """The newest checkpoint that is whole."""
    newest, damage, stamps = folder / "checkpoints" / Last.NAME, [], _stamps(folder)
    for path in (newest, previous(newest)):
        try:
            found = read_checkpoint(path)
            best = found["callbacks"]["Best"]["step"]
            step, rows, origin = found["global_step"], found["curve_rows"], found["origin"]
        except FileNotFoundError:
            continue
        except (KeyError, TypeError) as error:
            damage.append(f"{path} is no checkpoint of a run of this version ({error})")
        except ValueError as error:
            damage.append(str(error))
        else:
            return Start(path, step, rows, origin, best, "; ".join(damage), stamps)
    if damage:
        why = f"{'; '.join(damage)}, and there is no other checkpoint; remove {folder}, or give this one another --name"
        raise config.error("name", why)
    return Start(stamps=stamps)


def _stamps(folder: Path) -> tuple[int | None, ...]:
    paths = (folder / "config.yaml", folder / "checkpoints" / Last.NAME)
    return tuple(path.stat().st_mtime_ns if path.exists() else None for path in paths)


def _settle(folder: Path, start: Start) -> None:
    """Removes what the run does not go on from; the best state becomes the one that ``start`` knows of."""
    files.remove_drafts(folder)
    last, best = (folder / "checkpoints" / name for name in (Last.NAME, Best.NAME))
    if start.checkpoint is None:
        files.remove(folder / "checkpoints")
        return
    if start.checkpoint != last:
        files.remove(last)  # damaged; as the last but one it would take the place of a whole one
    if start.best_step is not None and why_not(best, start.best_step) and not why_not(previous(best), start.best_step):
        os.replace(previous(best), best)


def _difference(config: Config[Experiment], folder: Path) -> str:
    """The first key in which the config is not the one that the run was begun with."""
    file = folder / "config.yaml"
    try:
        readable = isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict)
    except (ValueError, yaml.YAMLError):
        readable = False
    if not readable:
        if not (folder / "checkpoints").exists():
            return ""  # nothing was done yet
        raise config.error("name", f"{file} is damaged; write it anew with --print_config, if nothing was changed")
    # Read as a config, so that a key which came with a later version has its default there; with the modules of this
    # process, whose fingerprints are compared elsewhere.
    old = load(file, Experiment, {KEY: config.value.imports}).value
    return _first_difference(_decisive(old), _decisive(config.value))


def _decisive(experiment: Experiment) -> Any:
    """The config without what may change: where things lie, which fingerprints look at, and what shares the work."""
    experiment = copy.deepcopy(experiment)
    experiment.output, experiment.name, experiment.imports = "", None, []
    peer = getattr(experiment.teacher, "peer", None)
    for holder in (*experiment.teachers().values(), experiment.student, peer):
        if hasattr(holder, "model"):
            holder.model = ""
    task = experiment.task
    for part in task.parts.values():
        for key in ("data", "unlabelled"):
            if getattr(part, key, None) is not None:
                setattr(part, key, "")
    for key in ("accelerator", "devices", "num_nodes"):
        experiment.trainer.pop(key, None)
    return dump(experiment)


def _first_difference(old: object, new: object, path: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            inner = f"{path}.{key}".strip(".")
            found = _first_difference(old[key], new[key], inner) if key in old and key in new else inner
            if found:
                return found
        return ""
    return "" if old == new else path
