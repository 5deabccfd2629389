"""The settings of the optimizer, and the learning rate over the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from distill.config.errors import did_you_mean
from prune_schedules.schedule import Linear, Schedule, Timeline, TimePoint
from students.weights import parameter_names


@dataclass(kw_only=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101); biases and norms are not decayed.

    Args:
        lr: the highest learning rate.
        warmup: the moment until which it rises from 0.
        schedule: its factor over the run.
        weight_decay: decoupled decay of matrices.
        betas: decay of the two moments of the gradient.
        eps: added to the root of the second moment.
        freeze: the moment until which parameters do not move, by a pattern of their names in the student's file, as in
            ``{"*.layer.0.*": 30%}`` (gradual unfreezing: Mukherjee and Awadallah 2020, arXiv 2004.05686). Masks and
            fake quantization act on them all the same.
    """

    lr: float = 5e-5
    warmup: TimePoint = TimePoint("6%")
    schedule: Schedule = Linear(initial=1.0, to=0.0)
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    freeze: dict[str, TimePoint] = field(default_factory=dict)

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError(f"lr: must be above 0, not {self.lr}")
        if len(self.betas) != 2:
            raise ValueError(f"betas: two numbers, not {len(self.betas)}")

    def rate(self, step: int, timeline: Timeline) -> float:
        """The learning rate of optimizer step ``step`` (counted from 0)."""
        warm = self.warmup.step(timeline)
        return self.lr * min(1.0, (step + 1) / (warm + 1)) * self.schedule.value(step, timeline)

    def check(self, student: nn.Module) -> None:
        """Looks for the parameters that are to be frozen.

        Raises:
            ValueError: if a pattern matches none.
        """
        names = [name for shared in parameter_names(student).values() for name in shared]
        for pattern in self.freeze:
            if not any(fnmatchcase(name, pattern) for name in names):
                parts = {f"{name.rsplit('.', up)[0]}.*": None for up in range(1, 9) for name in names}
                near = did_you_mean(pattern, [*names, *parts]) or f"; the first is {names[0]}"
                raise ValueError(f"freeze: no parameter of the student is called {pattern!r}{near}")
