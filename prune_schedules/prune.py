"""The callback that moves the masks of all pruners along the timeline while the model trains."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from prune_schedules.mask import Mask
from prune_schedules.pruner import Pruner
from students.weights import latent


class Prune(Callback):
    """Moves the masks of named pruners on ``module.student``, along ``module.timeline``.

    Masks of several pruners on one weight follow each other. They move right after the optimizer's step, so
    validation and checkpoints of a step see the sparsity of that step. No rank has masks of its own:
    ``DDPStrategy(broadcast_buffers=False)`` saves sending them at every forward pass.
    """

    def __init__(self, pruners: dict[str, Pruner]):
        self.pruners = pruners
        self._step: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the masks on, before a checkpoint is restored and the model is wrapped."""
        if stage == "fit":
            for pruner in self.pruners.values():
                pruner.attach(pl_module.student)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the schedules and set the masks of the first step; after resuming they are there as saved."""
        for pruner in self.pruners.values():
            pruner.check(pl_module.timeline)
        if trainer.global_step != self._step:
            self._move(trainer.global_step, pl_module)
        pl_module.status["sparsity"] = self.sparsity

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Tell the pruners that a batch comes."""
        for pruner in self.pruners.values():
            pruner.before_forward(trainer.global_step, pl_module.timeline, batch)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Show the pruners the gradients."""
        for pruner in self.pruners.values():
            pruner.before_step(trainer.global_step, pl_module.timeline)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the masks if the optimizer has made a step."""
        if trainer.global_step != self._step:
            self._move(trainer.global_step, pl_module)

    def _move(self, step: int, module: LightningModule) -> None:
        due = any(pruner.due(step, module.timeline) for pruner in self.pruners.values())
        self._step = step
        for pruner in self.pruners.values():
            pruner.update(step, module.timeline)
        if due:
            module.status["sparsity"] = self.sparsity

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
        """The share of masked entries in all weights that the pruners select, counted in the masks."""
        modules = {module for pruner in self.pruners.values() for module in pruner.weights.values()}
        kept = sum(int(self._kept(module).sum()) for module in modules)
        return 1 - kept / sum(latent(module).numel() for module in modules)

    @staticmethod
    def _kept(module: nn.Module) -> Tensor:
        kept = torch.ones_like(latent(module), dtype=torch.bool)
        for step in module.parametrizations.weight:
            if isinstance(step, Mask):
                kept = kept & step.mask
        return kept
