"""The callback that moves the masks of all pruners along the timeline while the model trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from prune_schedules.schedule import Constant
from prune_schedules.scores.pruner import Pruner
from prune_schedules.structure.shrink import cut_settled, follow
from prune_schedules.targets.mask import Mask
from prune_schedules.targets.shapes import Shape
from students.weights import get_weight_transforms, raw_parameter

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class Prune(Callback):
    """Moves the masks of named pruners on ``module.student``, along ``module.timeline``.

    Masks of several pruners on one weight follow each other. They move right after the optimizer's step, so
    validation and checkpoints of a step see the sparsity of that step. No rank has masks of its own, so DDP need not
    send them at every forward pass (``distill/training/trainer.py`` says so).

    In one process, neurons, heads and branches are cut out of the student as soon as all masks on their tensors stand
    for good; among several, whose wrapper holds the parameters, they stay masked.

    Args:
        pruners: by name.
        cuts: by shape, the step before which its units must not leave the tensors; one that is not named is
            only masked.
        seed: of what is drawn.
    """

    def __init__(self, pruners: dict[str, Pruner], cuts: dict[Shape, int] | None = None, seed: int = 0):
        self.pruners, self.cuts, self.seed = pruners, cuts or {}, seed
        self._step: int | None = None
        self._idle: list[nn.Parameter] = []
        """Biases of branches that are gone."""
        self.curves: dict[str, float] = {}
        """``sparsity`` as the masks stand, and ``penalty`` of the last step if there is one."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the masks on, before a checkpoint is restored and the model is wrapped."""
        if stage == "fit":
            for pruner in self.pruners.values():
                pruner.attach(pl_module.student, self.seed)
            self._follows = follow(pl_module.student, self.pruners, self._idle)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the schedules and set the masks of the first step; after resuming they are there as saved."""
        for pruner in self.pruners.values():
            pruner.check(pl_module.timeline)
        if trainer.global_step != self._step:
            self._move(trainer, pl_module)
        self.curves["sparsity"] = self.sparsity

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Tell the pruners that a batch comes."""
        for pruner in self.pruners.values():
            pruner.before_forward(trainer.global_step, pl_module.timeline, batch)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Show the pruners the gradients, then add those of their penalties; what is idle has none."""
        step, timeline = trainer.global_step, pl_module.timeline
        for pruner in self.pruners.values():
            pruner.before_step(step, timeline)
        for bias in self._idle:
            bias.grad = None
        penalized = [pruner for pruner in self.pruners.values() if pruner.penalty != Constant(0.0)]
        if penalized:
            self.curves["penalty"] = sum(pruner.penalize(step, timeline) for pruner in penalized)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the masks if the optimizer has made a step."""
        if trainer.global_step != self._step:
            self._move(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the student load what it will."""
        if stage == "fit":
            self._follows.remove()

    def _move(self, trainer: Trainer, module: LightningModule) -> None:
        step = self._step = trainer.global_step
        due = any(pruner.due(step, module.timeline) for pruner in self.pruners.values())
        for pruner in self.pruners.values():
            pruner.update(step, module.timeline)
        if due and isinstance(trainer.strategy, SingleDeviceStrategy):
            allowed = {shape for shape, start in self.cuts.items() if step >= start}
            found = cut_settled(module.student, self.pruners, allowed, step, module.timeline, trainer.optimizers)
            self._idle += found
        if due:
            self.curves["sparsity"] = self.sparsity

    def state_dict(self) -> dict[str, object]:
        """The step of the masks, and what the pruners have seen."""
        return {"step": self._step, "seen": {name: pruner.state() for name, pruner in self.pruners.items()}}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Take both up."""
        self._step = state_dict["step"]
        for name, state in state_dict["seen"].items():
            if state:
                self.pruners[name].load_state(state)

    @property
    def skipped(self) -> dict[str, str]:
        """What the pruners left out, by name, and why."""
        return {name: why for pruner in self.pruners.values() for name, why in pruner.skipped.items()}

    @property
    def sparsity(self) -> float:
        """The share of entries, of all weights that the pruners select, that are masked or cut out."""
        sizes = {module: size for pruner in self.pruners.values() for module, size in pruner.sizes.items()}
        return 1 - sum(int(self._kept(module).sum()) for module in sizes) / sum(sizes.values())

    @staticmethod
    def _kept(module: nn.Module) -> Tensor:
        weight = raw_parameter(module)
        kept = torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
        for step in get_weight_transforms(module):
            if isinstance(step, Mask):
                kept = kept & step.mask
        return kept
