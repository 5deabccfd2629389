"""The folder of a run: never overwritten, and continued only with the config it was begun with."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from distill.config import Config, dump, load
from distill.experiment import Experiment


def claim(config: Config[Experiment], folder: Path, resume: bool) -> tuple[Path | None, int]:
    """The checkpoint to go on from and its step; none and 0 for a new run. Writes nothing.

    Raises:
        ConfigError: if the folder is taken, there is nothing to resume, or the config is not the one of the run.
    """
    begun, checkpoint = folder / "config.yaml", folder / "checkpoints" / "last.ckpt"
    if getattr(rank_zero_only, "rank", 0) == 0:
        if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
            raise config.error("output", f"{file} is a file, not a folder")
        if resume and not begun.exists():
            raise config.error("name", f"there is no run in {folder} to resume")
        # Read as a config, so that a key which came with a later version has its default there.
        if resume and (different := _first_difference(dump(load(begun, Experiment).value), dump(config.value))):
            why = (
                f"is not what the run in {folder} was begun with; resume it unchanged, or give this one another --name"
            )
            raise config.error(different, why)
        if not resume and folder.exists() and any(folder.iterdir()):
            why = f"the folder {folder} already holds a run; continue it with --resume, or give this one another --name"
            raise config.error("name", why)
    if not resume or not checkpoint.exists():
        return None, 0
    return checkpoint, torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)["global_step"]


def _first_difference(old: object, new: object, path: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            inner = f"{path}.{key}".strip(".")
            found = _first_difference(old[key], new[key], inner) if key in old and key in new else inner
            if found:
                return found
        return ""
    return "" if old == new else path
