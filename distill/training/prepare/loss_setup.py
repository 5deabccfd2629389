"""Losses learn what they look at: the student, and the teacher, or each of several, that they compare it with."""

from __future__ import annotations

from transformers import PretrainedConfig

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from losses.loss import Loss


def set_losses_up(config: Config[Experiment], student: PretrainedConfig, teachers: dict[str, PretrainedConfig]) -> None:
    """Sets each loss up for the models that it looks at.

    Raises:
        ConfigError: if one asks for what they do not have.
    """
    apart = config.value.has_teacher_per_task()
    for name, loss in config.value.losses.items():
        with config.error_context(f"losses.{name}"):
            for teacher in _of_each_task(loss, teachers, student) if apart else _looked_at(loss, teachers):
                loss.setup(student, teacher)


def _looked_at(loss: Loss, configs: dict[str, PretrainedConfig]) -> list[PretrainedConfig | None]:
    """The teachers that a loss is set up for: a loss on layers has one, a loss on outputs looks at all."""
    if loss.uses_layers and len(configs) > 1:
        return [configs[loss.teacher]]
    return list(configs.values()) or [None]


def _of_each_task(
    loss: Loss, configs: dict[str, PretrainedConfig], student: PretrainedConfig
) -> list[PretrainedConfig]:
    """The same where each task has a teacher: whichever it is, the loss does not know it."""
    if not loss.uses_layers:
        return [student]  # on outputs, and these are as many as the student's once they stand in their place
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    sizes = {tuple(getattr(config, key, None) for key in keys) for config in configs.values()}
    if len(sizes) > 1:
        raise ValueError("the teachers of the tasks have different sizes, and a loss on layers needs equal ones")
    return list(configs.values())
