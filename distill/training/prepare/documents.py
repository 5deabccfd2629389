"""Several runs in one file, a YAML document each: later runs may name earlier ones as models.

All runs are checked before the first begins. For a run that is not done, its untrained student is saved in a
temporary folder, so that a later run that names it can be assembled; what pruning will cut is not yet known.
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
from distill.training.callbacks.display.messages import say
from distill.training.prepare.plan import Plan, plan
from distill.training.prepare.run_folder import Resume, has_run, is_finished, prepare_run_dir
from students.tokenizer.vocabulary import cut_vocabulary


def remaining_runs(configs: list[Config[Experiment]], resume: Resume) -> Iterator[tuple[Config[Experiment], bool]]:
    """Return the runs that are not done, each with whether to resume it, after checking all of them.

    With ``resume`` finished runs before the last are skipped, with ``auto`` the last as well.

    Raises:
        ConfigError: at the first mistake in any of them.
    """
    folders = [folder_of(config.value) for config in configs]
    resumed = _prepare_run_dirs(configs, folders, resume)
    done = [is_resumed and is_finished(folder) for is_resumed, folder in zip(resumed, folders, strict=True)]
    done[-1] = done[-1] and resume == "auto"
    runs = zip(configs, resumed, done, strict=True)
    todo = [(config, is_resumed) for config, is_resumed, is_done in runs if not is_done]
    # Ranks that this process starts later skip the dry run.
    if getattr(rank_zero_only, "rank", 0) == 0:
        for config, folder, is_done in zip(configs, folders, done, strict=True):
            if is_done:
                name, report = config.value.name, str(folder / "report.html")
                say(config.value.display, name, "done", f"{name}: is done already, {report}", {"report": report})
        if len(todo) > 1:
            for _ in dry_run([config for config, _ in todo]):
                pass
    return iter(todo)


def _prepare_run_dirs(configs: list[Config[Experiment]], folders: list[Path], resume: Resume) -> list[bool]:
    """Check the run folders, and return for each run whether it is resumed."""
    resumed = [bool(resume) and (has_run(folder) or (resume is True and folder == folders[0])) for folder in folders]
    for config, folder, is_resumed in zip(configs, folders, resumed, strict=True):
        prepare_run_dir(config, folder, is_resumed)
    return resumed


def check_runs(configs: list[Config[Experiment]], resume: Resume) -> Iterator[tuple[str, Plan]]:
    """Yield name and plan of each run; nothing is trained or written.

    Raises:
        ConfigError: at the first mistake in any of them.
    """
    _prepare_run_dirs(configs, [folder_of(config.value) for config in configs], resume)
    return dry_run(configs, with_data=True)


def dry_run(configs: list[Config[Experiment]], with_data: bool = False) -> Iterator[tuple[str, Plan]]:
    """Assemble each run once without training it, and yield its name and plan.

    Args:
        configs: the configs of the runs in their order.
        with_data: whether to build the student from data and score the teachers, where these models exist.

    Raises:
        ConfigError: at the first thing that does not fit.
    """
    folders, processes = [folder_of(config.value) for config in configs], None
    with tempfile.TemporaryDirectory() as scratch:
        stand_ins: dict[Path, str] = {}
        for index, config in enumerate(configs):
            models = {Path(holder.model) for holder in model_holders(config.value)}
            for folder in models.intersection(folders[index:]):
                key = "student" if Path(getattr(config.value.student, "model", "")) == folder else "teacher"
                raise config.error(key, f"model: {str(folder)!r} is not made before this run")
            trial = Config(copy.deepcopy(config.value), config.locations)
            rename_models(trial.value, stand_ins)
            try:
                run_plan = plan(trial, folders[index], begins=with_data and not models & stand_ins.keys())
            except ConfigError as error:
                text = str(error)
                for folder, stand_in in stand_ins.items():
                    text = text.replace(stand_in, str(folder))
                raise ConfigError(text) from error
            processes = processes or run_plan.trainer.world_size
            if run_plan.trainer.world_size != processes:
                # The processes of the first run go on with the next: none is started or ended between them.
                message = (
                    f"devices: makes {run_plan.trainer.world_size} processes, and the runs before have {processes}"
                )
                raise config.error("trainer", message)
            is_named_later = any(
                folders[index] == Path(holder.model)
                for later in configs[index:]
                for holder in model_holders(later.value)
            )
            if is_named_later:
                stand_ins[folders[index]] = str(Path(scratch) / f"run{index}")
                parts = run_plan.parts
                if parts.vocabulary:
                    cut_vocabulary(parts.student, parts.vocabulary.keep)
                tokenizer = parts.vocabulary.tokenizer if parts.vocabulary else parts.tokenizer
                parts.student.save_pretrained(stand_ins[folders[index]])
                tokenizer.save_pretrained(stand_ins[folders[index]])
            yield config.value.name, run_plan


def wait_for_rank_0() -> None:
    """Hold other ranks, for a day at most, until rank 0, which alone evaluates and reports, has ended its run."""
    if distributed.is_initialized():
        # The default group times out after minutes, and an evaluation may take longer.
        group = distributed.new_group(backend="gloo", timeout=timedelta(days=1))
        waiting = distributed.barrier(group, async_op=True)
        while not waiting.is_completed():  # polled, as torch's own wait blocks signal handlers
            time.sleep(0.1)
        waiting.wait()
        distributed.destroy_process_group(group)
