"""The callback that updates the masks of all pruners while the model trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from prune_schedules.schedule import Constant
from prune_schedules.scores.pruner import Pruner
from prune_schedules.structure.shrink import cut_before_loading, cut_final
from prune_schedules.targets.mask import Mask
from prune_schedules.targets.shapes import Shape
from students.weights import get_weight_transforms, raw_parameter

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class Prune(Callback):
    """Updates the masks of named pruners on ``module.student``, along ``module.timeline``.

    Masks of several pruners on one weight are applied one after the other. They change right after the optimizer's
    step, so that validation and checkpoints of a step have the sparsity of that step. All ranks have the same masks, so
    DDP need not send them at every forward pass (``distill/training/trainer.py`` turns it off).

    In one process, neurons, heads and branches are cut out of the student as soon as all masks on their tensors are
    final; with several processes, whose wrapper holds the parameters, they stay masked.

    Args:
        pruners: by name.
        cut_from: by shape, the step before which its units must not be cut; a shape without a step is only masked.
        seed: of the random numbers.
    """

    def __init__(self, pruners: dict[str, Pruner], cut_from: dict[Shape, int] | None = None, seed: int = 0):
        self.pruners, self.cut_from, self.seed = pruners, cut_from or {}, seed
        self._step: int | None = None
        self._frozen_biases: list[nn.Parameter] = []
        """Biases of removed branches."""
        self.curves: dict[str, float] = {}
        """The current ``sparsity``, and the ``penalty`` of the last step if there is one."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add the masks, before a checkpoint is restored and the model is wrapped."""
        if stage == "fit":
            for pruner in self.pruners.values():
                pruner.attach(pl_module.student, self.seed)
            self._load_hook = cut_before_loading(pl_module.student, self.pruners, self._frozen_biases)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the schedules and set the masks of the first step; a resumed run has loaded them."""
        for pruner in self.pruners.values():
            pruner.check(pl_module.timeline)
        if trainer.global_step != self._step:
            self._update(trainer, pl_module)
        self.curves["sparsity"] = self.sparsity

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Prepare the pruners for a batch."""
        for pruner in self.pruners.values():
            pruner.before_forward(trainer.global_step, pl_module.timeline, batch)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Pass the gradients to the pruners, then add those of the penalties; frozen biases have none."""
        step, timeline = trainer.global_step, pl_module.timeline
        for pruner in self.pruners.values():
            pruner.before_optimizer_step(step, timeline)
        for bias in self._frozen_biases:
            bias.grad = None
        penalized = [pruner for pruner in self.pruners.values() if pruner.penalty != Constant(0.0)]
        if penalized:
            self.curves["penalty"] = sum(pruner.add_penalty_gradients(step, timeline) for pruner in penalized)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Update the masks after an optimizer step."""
        if trainer.global_step != self._step:
            self._update(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the hook on loading."""
        if stage == "fit":
            self._load_hook.remove()

    def _update(self, trainer: Trainer, module: LightningModule) -> None:
        step = self._step = trainer.global_step
        is_due = any(pruner.is_due(step, module.timeline) for pruner in self.pruners.values())
        for pruner in self.pruners.values():
            pruner.update(step, module.timeline)
        if is_due and isinstance(trainer.strategy, SingleDeviceStrategy):
            shapes = {shape for shape, start in self.cut_from.items() if step >= start}
            self._frozen_biases += cut_final(
                module.student, self.pruners, shapes, step, module.timeline, trainer.optimizers
            )
        if is_due:
            self.curves["sparsity"] = self.sparsity

    def state_dict(self) -> dict[str, object]:
        """Return the step of the masks, and the statistics of the pruners."""
        return {"step": self._step, "pruners": {name: pruner.state_dict() for name, pruner in self.pruners.items()}}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Load the step of the masks, and the statistics of the pruners."""
        self._step = state_dict["step"]
        for name, state in state_dict["pruners"].items():
            if state:
                self.pruners[name].load_state_dict(state)

    @property
    def skipped(self) -> dict[str, str]:
        """Return the reasons for what the pruners left out, by name."""
        return {name: reason for pruner in self.pruners.values() for name, reason in pruner.skipped.items()}

    @property
    def sparsity(self) -> float:
        """Return the ratio of entries of all pruned weights that are masked or cut out."""
        sizes = {module: size for pruner in self.pruners.values() for module, size in pruner.sizes.items()}
        return 1 - sum(int(self._kept_entries(module).sum()) for module in sizes) / sum(sizes.values())

    @staticmethod
    def _kept_entries(module: nn.Module) -> Tensor:
        weight = raw_parameter(module)
        kept = torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
        for step in get_weight_transforms(module):
            if isinstance(step, Mask):
                kept = kept & step.mask
        return kept
