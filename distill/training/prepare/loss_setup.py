"""Set up the losses for the configs of the student and of the teachers that they compare it with."""

from __future__ import annotations

from transformers import PretrainedConfig

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from losses.loss import Loss


def set_up_losses(config: Config[Experiment], student: PretrainedConfig, teachers: dict[str, PretrainedConfig]) -> None:
    """Set up each loss for the models that it compares.

    Raises:
        ConfigError: if a loss needs outputs that they do not have.
    """
    per_task, facts = config.value.has_teacher_per_task(), config.value.task.facts
    counts = {name: splits["train"] for name, splits in facts.classes.items()} if facts else {}
    rows = sum(file.rows_kept for file in facts.files if file.split == "train") if facts else 0
    for name, loss in config.value.losses.items():
        with config.error_context(f"losses.{name}"):
            for teacher in _task_teachers(loss, teachers, student) if per_task else _compared_teachers(loss, teachers):
                loss.setup(student, teacher)
            loss.setup_classes(counts, rows)


def _compared_teachers(loss: Loss, configs: dict[str, PretrainedConfig]) -> list[PretrainedConfig | None]:
    """Return the teachers that a loss is set up for: one for a loss on layers, all for a loss on outputs."""
    if loss.uses_layers and len(configs) > 1:
        return [configs[loss.teacher]]
    return list(configs.values()) or [None]


def _task_teachers(
    loss: Loss, configs: dict[str, PretrainedConfig], student: PretrainedConfig
) -> list[PretrainedConfig]:
    """Return the teachers that a loss is set up for where each task has its own.

    Raises:
        ValueError: if a loss on layers would compare teachers of different sizes.
    """
    if not loss.uses_layers:
        return [student]  # a loss on outputs, of which teacher and student have equally many
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    sizes = {tuple(getattr(config, key, None) for key in keys) for config in configs.values()}
    if len(sizes) > 1:
        raise ValueError("the teachers of the tasks have different sizes, and a loss on layers needs equal ones")
    return list(configs.values())
