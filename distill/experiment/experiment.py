"""Everything a run can be told: the keys of the YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from torch import nn

from distill.config.errors import NestedValueError
from distill.config.schema import check_identifiers, plain_parameters
from distill.experiment.compatibility import conflicts
from distill.experiment.components import components
from distill.experiment.optimizer import Optimizer
from distill.tasks.task import Task
from distill.teachers.ensemble import Teachers
from distill.teachers.moving_average import MovingAverage
from distill.teachers.peer import Peer
from distill.teachers.teacher import Teacher
from losses.loss import Loss
from prune_schedules.schedule import Schedule
from prune_schedules.scores.keep import Keep
from prune_schedules.scores.pruner import Pruner
from quant_aware.quantize import Quantize
from students.kinds.student import Student

_OURS = {
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
    "limit_test_batches",
    "limit_predict_batches",
    "max_time",
    "overfit_batches",
}
"""Arguments of Lightning's Trainer that the run itself sets, or that would end it at no known step."""


@cache
def trainer_arguments() -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that a config may set: {name: hint}."""
    from lightning import Trainer  # not above: it takes seconds, and most mistakes in a config are found without it

    return plain_parameters(Trainer.__init__, _OURS)


@dataclass(kw_only=True)
class Tracking:
    """Where curves go besides metrics.csv.

    Args:
        wandb: a project of Weights & Biases; ``WANDB_MODE=offline`` keeps it on this machine.
        tensorboard: write TensorBoard files into the run folder.
    """

    wandb: str | None = None
    tensorboard: bool = False

    def __post_init__(self):
        if self.tensorboard and not (find_spec("tensorboard") or find_spec("tensorboardX")):
            raise ValueError("tensorboard: is not installed here; it is a package of that name")


@dataclass(kw_only=True)
class Experiment:
    """One run: a student, trained by losses on a task, pruned and quantized on the way.

    Args:
        imports: modules of your own, whose losses, pruners, quantizers, schedules, tasks and students have their names
            here: a ``.py`` file beside this one, or a module on Python's path (docs/extending.md). They are run.
        task: what the model is for, and its data.
        teacher: the model that is imitated: a hub name, a folder, or an earlier run; or several as ``members``; or one
            that changes with the student, its own average (``decay``) or a ``peer``.
        student: how the student is built; a hub name, a folder or an earlier run stands for that very model.
        replace: the probability that a block of the student runs in training, and not those of the teacher for which it
            stands; of several teachers the first.
        losses: the terms of the loss by name.
        prune: one pruner, or several by name; ``keep`` keeps at zero what is zero in a sparse student (``kind: Keep``).
        quantize: quantization-aware training.
        export: write student.onnx (with ``quantize`` it is written anyhow).
        save_dtype: the precision in which the student is saved, and judged; it is trained in that of ``trainer``.
        vocabulary: ``seen`` takes the tokens that no training row has out of the deployed student and its tokenizer;
            what they stood for is spelled in smaller pieces.
        optimizer: AdamW and its learning rate.
        trainer: arguments of Lightning's Trainer, by its own names.
        tracking: where curves go besides metrics.csv.
        name: the run's folder in ``output``; the config's file name if not given.
        output: the folder of runs.
        seed: of initial weights, the order of the data and dropout.
    """

    imports: list[str] = field(default_factory=list)
    task: Task
    teacher: Teacher | Teachers | MovingAverage | Peer | None = None
    student: Student
    replace: Schedule | None = None
    losses: dict[str, Loss]
    prune: Literal["keep"] | Pruner | dict[str, Pruner] | None = None
    quantize: Quantize | None = None
    export: Literal["onnx"] | None = None
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    vocabulary: Literal["seen"] | None = None
    optimizer: Optimizer = field(default_factory=Optimizer)
    trainer: Annotated[dict[str, Any], trainer_arguments] = field(default_factory=dict)
    tracking: Tracking = field(default_factory=Tracking)
    name: str | None = None
    output: str = "runs"
    seed: int = 0

    def __post_init__(self):
        if self.prune == "keep":
            self.prune = Keep()
        if not self.losses:
            raise ValueError("losses: name at least one loss")
        check_identifiers("losses", self.losses)
        for name in self.losses:
            if hasattr(nn.ModuleDict(), name):  # it will hold them
                raise ValueError(f"losses: {name!r} is a name of torch's own; choose another")
            if name.removesuffix("_weight") in self.losses and name.endswith("_weight"):
                raise ValueError(f"losses: {name!r} is the curve of another loss's weight; choose another name")
        check_identifiers("prune", self.prune if isinstance(self.prune, dict) else ())
        for key, why in conflicts(components(self)):
            raise NestedValueError(key, why)
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
        """Whether each task has a teacher of its own."""
        return isinstance(self.teacher, Teachers) and self.teacher.has_teacher_per_task

    def teachers(self) -> dict[str, Teacher]:
        """The trained teachers by name; a single one is called ``teacher``."""
        if isinstance(self.teacher, Teachers):
            return self.teacher.members
        return {"teacher": self.teacher} if isinstance(self.teacher, Teacher) else {}

    def drop_when_matched(self) -> bool:
        """Whether the student may go on without its teacher."""
        return isinstance(self.teacher, Teacher) and self.teacher.drop_when_matched

    def pruners(self) -> dict[str, Pruner]:
        """The pruners by name; a single one is called ``prune``."""
        return self.prune if isinstance(self.prune, dict) else {"prune": self.prune} if self.prune else {}

    def prune_key(self, name: str) -> str:
        """Return where a pruner stands in the config."""
        return f"prune.{name}" if isinstance(self.prune, dict) else "prune"
