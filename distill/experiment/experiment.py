"""The config of a run: the keys of the YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from torch import nn

from distill.config.schema import check_identifiers, plain_parameters
from distill.experiment.monitoring import Display, Tracking
from distill.experiment.optimizer import Optimizer
from distill.tasks.task import Task
from distill.teachers.columns import Columns
from distill.teachers.ensemble import Teachers
from distill.teachers.judges.combined import Judges
from distill.teachers.judges.endpoint import Endpoint
from distill.teachers.judges.prompted_model import PromptedModel
from distill.teachers.moving_average import MovingAverage
from distill.teachers.peer import Peer
from distill.teachers.settings import LoopTeacher
from distill.teachers.teacher import Teacher
from losses.loss import Loss
from prune_schedules.schedule import Schedule
from prune_schedules.scores.fixed_mask import FixedMask
from prune_schedules.scores.pruner import Pruner
from quant_aware.quantize import Quantize
from students.kinds.student import Student

_RESERVED_ARGUMENTS = {
    "logger",
    "callbacks",
    "enable_checkpointing",
    "default_root_dir",
    "plugins",
    "use_distributed_sampler",
    "reload_dataloaders_every_n_epochs",
    "inference_mode",
    "barebones",
    "model_registry",
    "enable_autolog_hparams",
    "fast_dev_run",
    "num_sanity_val_steps",
    "enable_model_summary",
    "enable_progress_bar",
    "limit_test_batches",
    "limit_predict_batches",
    "max_time",
    "overfit_batches",
}
"""Arguments of Lightning's Trainer that the run sets itself, or that would end it at an unknown step."""


@cache
def trainer_arguments() -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that a config may set: {name: hint}."""
    from lightning import Trainer  # not above: it takes seconds, and most mistakes in a config are found without it

    return plain_parameters(Trainer.__init__, _RESERVED_ARGUMENTS)


@dataclass(kw_only=True)
class Experiment:
    """One run: a student is trained with losses on a task, and pruned and quantized meanwhile.

    Args:
        imports: your own modules with losses, pruners, quantizers, schedules, tasks or students: a ``.py`` file beside
            this one, or a module on Python's path (docs/extending.md). They are executed.
        task: the task and its data.
        teacher: the model to imitate: a hub name, a folder, or an earlier run; or several as ``members``; or an
            online teacher, the student's moving average (``decay``) or a ``peer``; or ``columns`` of the data with
            its outputs; or a language model that judges the texts by a ``prompt``, behind an ``endpoint`` or as one of
            several ``judges``.
        student: how to build the student; a hub name, a folder or an earlier run is used as it is.
        replace: the probability that a block of the student runs in training, else the blocks of the (first) teacher
            that it replaces.
        losses: the terms of the loss by name.
        prune: one pruner, or several by name; ``fixed_mask`` keeps the zeros of a sparse student (``kind: FixedMask``).
        quantize: quantization-aware training.
        export: write student.onnx (with ``quantize`` it is always written).
        save_dtype: the dtype in which the student is saved and evaluated; it is trained in that of ``trainer``.
        vocabulary: ``seen`` removes the tokens that no training row has from the deployed student and its tokenizer;
            their texts are split into smaller tokens.
        optimizer: AdamW and its learning rate.
        trainer: arguments of Lightning's Trainer, by its own names. Without ``val_check_interval`` and
            ``check_val_every_n_epoch`` a run is validated at least five times, and at the end of each epoch;
            with ``drop_when_matched`` only at the end of each epoch.
        tracking: loggers of the curves besides metrics.csv.
        display: what the terminal shows while the run goes on.
        name: the run's folder in ``output``; by default the config's file name.
        output: the folder of runs.
        seed: the seed of initial weights, the order of the data and dropout.
    """

    imports: list[str] = field(default_factory=list)
    task: Task
    teacher: Teacher | Teachers | MovingAverage | Peer | Columns | PromptedModel | Endpoint | Judges | None = None
    student: Student
    replace: Schedule | None = None
    losses: dict[str, Loss]
    prune: Literal["fixed_mask"] | Pruner | dict[str, Pruner] | None = None
    quantize: Quantize | None = None
    export: Literal["onnx"] | None = None
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    vocabulary: Literal["seen"] | None = None
    optimizer: Optimizer = field(default_factory=Optimizer)
    trainer: Annotated[dict[str, Any], trainer_arguments] = field(default_factory=dict)
    tracking: Tracking = field(default_factory=Tracking)
    display: Display = field(default_factory=Display)
    name: str | None = None
    output: str = "runs"
    seed: int = 0

    def __post_init__(self):
        if self.prune == "fixed_mask":
            self.prune = FixedMask()
        if not self.losses:
            raise ValueError("losses: name at least one loss")
        check_identifiers("losses", self.losses)
        for name in self.losses:
            if hasattr(nn.ModuleDict(), name):  # the losses become a ModuleDict
                raise ValueError(f"losses: {name!r} is a name of torch's own; choose another")
            if name.removesuffix("_weight") in self.losses and name.endswith("_weight"):
                raise ValueError(f"losses: {name!r} is the curve of another loss's weight; choose another name")
        check_identifiers("prune", self.prune if isinstance(self.prune, dict) else ())
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: must lie in [0, 2^32), not {self.seed}")
        self.trainer = {
            "max_epochs": 3,
            "accelerator": "auto",
            "devices": "auto",
            "precision": "32-true",
            "accumulate_grad_batches": 1,
            "log_every_n_steps": 20,
            "gradient_clip_val": 1.0,
        } | self.trainer
        for name in ("accumulate_grad_batches", "log_every_n_steps"):
            if (self.trainer[name] or 0) < 1:
                raise ValueError(f"trainer: {name}: must be at least 1, not {self.trainer[name]}")
        if self.name is not None and ("/" in self.name or self.name in ("", ".", "..")):
            raise ValueError(f"name: {self.name!r} is not the name of a folder")

    def has_teacher_per_task(self) -> bool:
        """Return whether each task has its own teacher."""
        return bool(self.teacher and self.teacher.has_teacher_per_task)

    def teachers(self) -> dict[str, Teacher]:
        """Return the trained teachers by name; a single one is called ``teacher``."""
        return self.teacher.trained_teachers() if self.teacher else {}

    def build_teacher(self, teachers: dict[str, LoopTeacher]) -> LoopTeacher | None:
        """Return the teacher of the training loop, made of the trained ones; None if there are none."""
        return self.teacher.build_teacher(teachers, self.task) if self.teacher else None

    def teacher_key(self, name: str) -> str:
        """Return the key of a trained teacher in the config."""
        return f"teacher.members.{name}" if self.teacher and self.teacher.is_ensemble else "teacher"

    def drop_when_matched(self) -> bool:
        """Return whether the teacher may be dropped once the student matches it."""
        return bool(self.teacher and self.teacher.drop_when_matched)

    def pruners(self) -> dict[str, Pruner]:
        """Return the pruners by name; a single one is called ``prune``."""
        return self.prune if isinstance(self.prune, dict) else {"prune": self.prune} if self.prune else {}

    def prune_key(self, name: str) -> str:
        """Return the key of a pruner in the config."""
        return f"prune.{name}" if isinstance(self.prune, dict) else "prune"
