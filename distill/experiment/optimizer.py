"""The settings of the optimizer and its learning rate."""

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
        lr: the peak learning rate.
        warmup: the time point until which the learning rate rises from 0.
        schedule: the factor of the learning rate over the run.
        weight_decay: the decoupled weight decay of matrices.
        betas: the decay rates of the two moments of the gradient.
        eps: the term added to the root of the second moment.
        freeze: the time point until which parameters are frozen, by a pattern of their names in the student's file, as
            in ``{"*.layer.0.*": 30%}`` (gradual unfreezing: Mukherjee and Awadallah 2020, arXiv 2004.05686). Masks and
            fake quantization still act on them.
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
        """Return the learning rate of optimizer step ``step`` (counted from 0)."""
        warmup_steps = self.warmup.step(timeline)
        return self.lr * min(1.0, (step + 1) / (warmup_steps + 1)) * self.schedule.value(step, timeline)

    def check(self, student: nn.Module) -> None:
        """Check that each pattern of ``freeze`` matches a parameter of the student.

        Raises:
            ValueError: if a pattern matches none.
        """
        names = [name for tied_names in parameter_names(student).values() for name in tied_names]
        for pattern in self.freeze:
            if not any(fnmatchcase(name, pattern) for name in names):
                prefixes = {f"{name.rsplit('.', up)[0]}.*": None for up in range(1, 9) for name in names}
                hint = did_you_mean(pattern, [*names, *prefixes]) or f"; the first is {names[0]}"
                raise ValueError(f"freeze: no parameter of the student is called {pattern!r}{hint}")
