"""Several runs in one file, a document each: they are carried out in order, and later ones name earlier ones as models.

All of them are checked before the first begins. A run that does not exist yet is stood in for by its student as it is
before training, so that a later run can be assembled whole; only what pruning will cut is not known by then.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from distill.config.config import Config
from distill.config.errors import ConfigError
from distill.experiment.experiment import Experiment
from distill.experiment.runs import folder_of, model_holders, rename_models
from distill.training.prepare.plan import Plan, plan
from distill.training.prepare.run_folder import Resume, begun, finished, prepare_run_dir
from students.tokenizer.vocabulary import cut_vocabulary


def remaining(configs: list[Config[Experiment]], resume: Resume) -> Iterator[tuple[Config[Experiment], bool]]:
    """The runs that are to be done, each with whether it has begun; all are checked before the first is given.

    With ``resume`` those before the last whose report is written are left out, with ``auto`` the last as well.

    Raises:
        ConfigError: at the first mistake in any of them.
    """
    folders = [folder_of(config.value) for config in configs]
    goes_on = _prepare_all(configs, folders, resume)
    done = [has and finished(folder) for has, folder in zip(goes_on, folders, strict=True)]
    done[-1] = done[-1] and resume == "auto"
    todo = [(config, has) for config, has, over in zip(configs, goes_on, done, strict=True) if not over]
    # Ranks that a run of this process starts come after the rehearsal.
    if getattr(rank_zero_only, "rank", 0) == 0:
        for config, folder, over in zip(configs, folders, done, strict=True):
            if over:
                print(f"{config.value.name}: is done already, {folder / 'report.html'}", flush=True)
        if len(todo) > 1:
            for _ in dry_run([config for config, _ in todo]):
                pass
    return iter(todo)


def _prepare_all(configs: list[Config[Experiment]], folders: list[Path], resume: Resume) -> list[bool]:
    """Of each run whether it goes on; the folders are free for that."""
    goes_on = [bool(resume) and (begun(folder) or (resume is True and folder == folders[0])) for folder in folders]
    for config, folder, has in zip(configs, folders, goes_on, strict=True):
        prepare_run_dir(config, folder, has)
    return goes_on


def check(configs: list[Config[Experiment]], resume: Resume) -> Iterator[tuple[str, Plan]]:
    """Each run by name as it would begin; nothing is trained or written.

    Raises:
        ConfigError: at the first mistake in any of them.
    """
    _prepare_all(configs, [folder_of(config.value) for config in configs], resume)
    return dry_run(configs, whole=True)


def dry_run(configs: list[Config[Experiment]], whole: bool = False) -> Iterator[tuple[str, Plan]]:
    """Assembles each run once, by its name, and throws it away.

    Args:
        configs: of the runs in their order.
        whole: whether to look at data for the student's weights and score the teachers, where these exist.

    Raises:
        ConfigError: at the first thing that does not fit.
    """
    folders, processes = [folder_of(config.value) for config in configs], None
    with tempfile.TemporaryDirectory() as scratch:
        stand_ins: dict[Path, str] = {}
        for at, config in enumerate(configs):
            named = {Path(holder.model) for holder in model_holders(config.value)}
            for folder in named.intersection(folders[at:]):
                key = "student" if Path(getattr(config.value.student, "model", "")) == folder else "teacher"
                raise config.error(key, f"model: {str(folder)!r} is not made before this run")
            trial = Config(copy.deepcopy(config.value), config.locations)
            rename_models(trial.value, stand_ins)
            try:
                planned = plan(trial, folders[at], begins=whole and not named & stand_ins.keys())
            except ConfigError as error:
                text = str(error)
                for folder, stand_in in stand_ins.items():
                    text = text.replace(stand_in, str(folder))
                raise ConfigError(text) from error
            processes = processes or planned.trainer.world_size
            if planned.trainer.world_size != processes:
                # The processes of the first run go on with the next: none is started or ended between them.
                why = f"devices: makes {planned.trainer.world_size} processes, and the runs before have {processes}"
                raise config.error("trainer", why)
            if any(
                folders[at] == Path(holder.model) for later in configs[at:] for holder in model_holders(later.value)
            ):
                stand_ins[folders[at]] = str(Path(scratch) / f"run{at}")
                parts = planned.parts
                if parts.vocabulary:
                    cut_vocabulary(parts.student, parts.vocabulary.keep)
                tokenizer = parts.vocabulary.tokenizer if parts.vocabulary else parts.tokenizer
                parts.student.save_pretrained(stand_ins[folders[at]])
                tokenizer.save_pretrained(stand_ins[folders[at]])
            yield config.value.name, planned


def wait_for_rank_0() -> None:
    """Holds the other ranks until rank 0, which alone measures and writes, has ended its run too; a day at most."""
    if distributed.is_initialized():
        # A group of its own: the one of the gradients would give up after minutes, and a measurement may take longer.
        group = distributed.new_group(backend="gloo", timeout=timedelta(days=1))
        waiting = distributed.barrier(group, async_op=True)
        while not waiting.is_completed():  # and not in torch, where no signal is handled
            time.sleep(0.1)
        waiting.wait()
        distributed.destroy_process_group(group)
