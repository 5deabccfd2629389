"""The run folder: it is never overwritten, used by one process at a time, and resumed only with the same config."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
from distill.experiment.monitoring import Display, Tracking
from distill.run_dir import files
from distill.run_dir.clock import Clock
from distill.run_dir.lock import NAME as LOCK
from distill.run_dir.lock import RunDirLocked, lock, lock_owner
from distill.training.callbacks.checkpoints import (
    BestCheckpoint,
    LastCheckpoint,
    checkpoint_mismatch,
    previous_path,
    read_checkpoint,
)

Resume = bool | Literal["auto"]
"""Whether to resume the run in a folder; ``auto``: if there is one."""


@dataclass
class ResumePoint:
    """The state from which a run starts: step 0 or a checkpoint."""

    checkpoint: Path | None = None
    step: int = 0
    curve_rows: int = 0
    """The number of rows of metrics.csv at the checkpoint."""
    origin: dict[str, Any] | None = None
    """The fingerprints of the run's start."""
    best_step: int | None = None
    damage: str = ""
    """Why the newest checkpoint is not used."""
    timestamps: tuple[int | None, ...] = (None, None)
    """When config and newest checkpoint were written, in nanoseconds."""
    clock: Clock = field(default_factory=Clock, compare=False)
    """The time of the run, with that of the processes before this one."""

    def messages(self) -> list[str]:
        """Return the lines to print."""
        lines = [f"{self.damage}; {self.checkpoint.name} takes its place"] if self.damage else []
        return [*lines, f"goes on after step {self.step}"] if self.checkpoint else lines


def prepare_run_dir(config: Config[Experiment], folder: Path, resume: bool) -> ResumePoint:
    """Check a run folder, without writing, and return the state from which the run starts.

    Raises:
        ConfigError: if the folder is in use by a run or a process, there is nothing to resume, or the config differs
            from that of the run.
    """
    if getattr(rank_zero_only, "rank", 0) == 0:
        if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
            raise config.error("output", f"{file} is a file, not a folder")
        if process := lock_owner(folder):
            raise _locked(config, folder, process)
        if resume and not has_run(folder):
            raise config.error("name", f"there is no run in {folder} to resume")
        if not resume and _has_files(folder):
            content, advice = (
                ("a run", "continue it with --resume, or ") if has_run(folder) else ("files, but no run", "")
            )
            message = f"the folder {folder} already holds {content}; {advice}give this one another --name"
            raise config.error("name", message)
        if resume and (key := _changed_key(config, folder)):
            message = f"is not what the run in {folder} was begun with"
            raise config.error(key, f"{message}; resume it unchanged, or give this one another --name")
    return _resume_point(config, folder) if resume else ResumePoint()


def has_run(folder: Path) -> bool:
    """Return whether a run has begun in the folder."""
    return (folder / "config.yaml").exists()


def is_finished(folder: Path) -> bool:
    """Return whether the run in the folder is done: the report is its last file."""
    return has_run(folder) and (folder / "report.json").exists()


@contextmanager
def locked_run_dir(config: Config[Experiment], folder: Path, start: ResumePoint) -> Iterator[None]:
    """Create and lock the folder while the block runs, and remove files that are not those of ``start``.

    Raises:
        ConfigError: if another process holds the folder, or the run is done and has no checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder):
            if _timestamps(folder) != start.timestamps:
                raise config.error("name", f"another process has worked in {folder} meanwhile; start this one again")
            if start.checkpoint is None and is_finished(folder):
                raise config.error("name", f"the run in {folder} is done, and no checkpoint is left to go on from")
            _restore_files(folder, start)
            yield
    except RunDirLocked as error:
        raise _locked(config, folder, str(error)) from error
    finally:
        with suppress(OSError):  # it is empty after a run that made no step
            folder.rmdir()


def empty_run_dir(folder: Path) -> None:
    """Remove everything but the lock from a run folder."""
    for path in folder.iterdir():
        if path.name != LOCK:
            files.remove(path)


def remove_backups(folder: Path) -> None:
    """Remove the previous checkpoints, which only a run that may be resumed needs."""
    for name in (LastCheckpoint.NAME, BestCheckpoint.NAME):
        files.remove(previous_path(folder / "checkpoints" / name))


def _has_files(folder: Path) -> bool:
    """Return whether a folder has files other than the lock and drafts of a process that was killed early."""
    return folder.exists() and any(path.name != LOCK and path.suffix != files.DRAFT for path in folder.iterdir())


def _locked(config: Config[Experiment], folder: Path, process: str) -> ConfigError:
    message = f"the run in {folder} is going on ({process}); wait for its end, or give this one another --name"
    return config.error("name", message)


def _resume_point(config: Config[Experiment], folder: Path) -> ResumePoint:
    """Return the newest checkpoint that is not damaged."""
    newest, damage, timestamps = folder / "checkpoints" / LastCheckpoint.NAME, [], _timestamps(folder)
    for path in (newest, previous_path(newest)):
        try:
            checkpoint = read_checkpoint(path)
            best_step = checkpoint["callbacks"]["BestCheckpoint"]["step"]
            step, rows, origin = checkpoint["global_step"], checkpoint["curve_rows"], checkpoint["origin"]
            clock = Clock(**checkpoint["clock"])
        except FileNotFoundError:
            continue
        except (KeyError, TypeError) as error:
            damage.append(f"{path} is no checkpoint of a run of this version ({error})")
        except ValueError as error:
            damage.append(str(error))
        else:
            return ResumePoint(path, step, rows, origin, best_step, "; ".join(damage), timestamps, clock)
    if damage:
        message = f"{'; '.join(damage)}, and there is no other checkpoint"
        raise config.error("name", f"{message}; remove {folder}, or give this one another --name")
    return ResumePoint(timestamps=timestamps)


def _timestamps(folder: Path) -> tuple[int | None, ...]:
    paths = (folder / "config.yaml", folder / "checkpoints" / LastCheckpoint.NAME)
    return tuple(path.stat().st_mtime_ns if path.exists() else None for path in paths)


def _restore_files(folder: Path, start: ResumePoint) -> None:
    """Remove files that the run does not resume from, and restore the best state that ``start`` records."""
    files.remove_drafts(folder)
    last, best = (folder / "checkpoints" / name for name in (LastCheckpoint.NAME, BestCheckpoint.NAME))
    if start.checkpoint is None:
        files.remove(folder / "checkpoints")
        return
    if start.checkpoint != last:
        files.remove(last)  # damaged; kept as the previous one, it would replace an intact one
    if (
        start.best_step is not None
        and checkpoint_mismatch(best, start.best_step)
        and not checkpoint_mismatch(previous_path(best), start.best_step)
    ):
        os.replace(previous_path(best), best)


def _changed_key(config: Config[Experiment], folder: Path) -> str:
    """Return the first key in which the config differs from that of the run, else an empty string."""
    file = folder / "config.yaml"
    try:
        readable = isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict)
    except (ValueError, yaml.YAMLError):
        readable = False
    if not readable:
        if not (folder / "checkpoints").exists():
            return ""  # nothing was done yet
        raise config.error("name", f"{file} is damaged; write it anew with --print_config, if nothing was changed")
    # Loaded as a config, so that keys of later versions have their defaults; with the imports of this process, whose
    # fingerprints are compared elsewhere.
    old = load(file, Experiment, {KEY: config.value.imports}).value
    return _first_difference(_comparable(old), _comparable(config.value))


def _comparable(experiment: Experiment) -> Any:
    """Return the config without what may change: paths, whose contents have fingerprints, devices, what is shown."""
    experiment = copy.deepcopy(experiment)
    experiment.display, experiment.tracking = Display(), Tracking()
    experiment.output, experiment.name, experiment.imports = "", None, []
    peer = getattr(experiment.teacher, "peer", None)
    for holder in (*experiment.teachers().values(), experiment.student, peer):
        if hasattr(holder, "model"):
            holder.model = ""
        if getattr(holder, "tokenizer", None):
            holder.tokenizer = "NAME"
    task = experiment.task
    for part in task.parts.values():
        for key in ("data", "unlabelled"):
            if getattr(part, key, None) is not None:
                setattr(part, key, "")
    for key in ("accelerator", "devices", "num_nodes"):
        experiment.trainer.pop(key, None)
    return dump(experiment)


def _first_difference(old: object, new: object, path: str = "") -> str:
    """Return the dotted key of the first difference of nested mappings, else an empty string."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            inner = f"{path}.{key}".strip(".")
            changed = _first_difference(old[key], new[key], inner) if key in old and key in new else inner
            if changed:
                return changed
        return ""
    return "" if old == new else path
