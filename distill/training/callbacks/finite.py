"""Stop a run at the first number that is not finite, before it is in a checkpoint or an average."""

from __future__ import annotations

import math

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor

from students import processes
from students.loading.finite_weights import plain_name
from students.recording.signals import Signals

MAX_SKIPPED_STEPS = 20
"""Steps in a row that the gradient scaler may skip: its scale falls from 2^16 to below 1 in these."""


class NonFiniteError(Exception):
    """A number of the run is NaN or infinite; the message is the line to print."""


class FiniteCheck(Callback):
    """Checks losses, gradients and weights of every step, and the outputs of every validation.

    It comes after the callbacks that change weights and before those that save them. Norms are computed on the
    device, and one small tensor is read at the end of a step. All ranks agree on stopping, and only then look for the
    cause. With a gradient scaler (16-mixed) steps with a gradient that is not finite are skipped, and stop the run
    only after ``MAX_SKIPPED_STEPS`` in a row.

    Args:
        total: the last step of the run.
    """

    def __init__(self, total: int):
        self.total = total
        self.losses: dict[str, Tensor] = {}
        self.gradients: tuple[list[str], Tensor] | None = None
        self.skips = 0
        self.has_bad_outputs: Tensor | None = None

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Compute the norms of the gradients before clipping, after which all would be NaN."""
        trained = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        self.losses = dict(module.loss_sums)
        self.gradients = list(trained), tensor_norms(list(trained.values()))

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: dict[str, Tensor], index: int
    ) -> None:
        """Check the finished step, at the end of its accumulation window.

        Raises:
            NonFiniteError: on all ranks, if a loss, the gradient or a weight of any of them is not finite.
        """
        if self.gradients is None:
            return
        (names, gradients), self.gradients = self.gradients, None
        weights = tensor_norms([p.detach() for p in module.parameters()])
        losses = torch.stack([value.float() for value in self.losses.values()]) if self.losses else weights[:0]
        # The norm of norms as well: the total norm that clipping divides by may be infinite although no number is.
        finite = torch.stack(
            [part.isfinite().all() for part in (losses, weights, torch.linalg.vector_norm(gradients))]
        ).tolist()
        may_skip = getattr(trainer.precision_plugin, "scaler", None) is not None and finite[:2] == [True, True]
        self.skips = self.skips + 1 if may_skip and not finite[2] else 0
        must_stop = not all(finite) and (not self.skips or self.skips >= min(MAX_SKIPPED_STEPS, self.total))
        if trainer.strategy.reduce_boolean_decision(must_stop, all=False):
            cause = self._cause(trainer, module, batch, dict(zip(names, gradients.tolist(), strict=True)))
            raise NonFiniteError(self._message(trainer, module, cause))

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Reset the check of outputs."""
        self.has_bad_outputs = torch.zeros((), dtype=torch.bool, device=module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Tensor, batch: dict, index: int, loader: int = 0
    ) -> None:
        """Check the logits; minus infinity is allowed, as the logit of an excluded class."""
        self.has_bad_outputs |= outputs.isnan().any() | outputs.isposinf().any()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Check outputs and metrics of the validation.

        A metric that is NaN although all outputs are finite is undefined, as the correlation with a constant is; the
        report warns of it.

        Raises:
            NonFiniteError: on all ranks, if an output is not finite on any of them, or a metric is infinite.
        """
        if trainer.strategy.reduce_boolean_decision(bool(self.has_bad_outputs), all=False):
            cause = "the student's outputs on the validation rows are not finite"
            raise NonFiniteError(self._message(trainer, module, cause))
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/") and float(value) in (float("inf"), float("-inf")):
                raise NonFiniteError(self._message(trainer, module, f"{name} is {float(value)}"))

    def _cause(self, trainer: Trainer, module: LightningModule, batch: dict, gradients: dict[str, float]) -> str:
        """Return what was not finite on any rank: a loss, else a gradient, else a weight.

        All ranks call it and take the same branch, since a loss of one rank is a gradient of the others, and a sharded
        teacher must run on all ranks.
        """
        losses = [f"the loss {name!r} is {float(value)}" for name, value in self.losses.items() if not value.isfinite()]
        if loss := processes.gather_first_text(next(iter(losses), None)):
            teacher = None if teacher_is_finite(trainer, module, batch) else ", and so are the teacher's outputs"
            return loss + (processes.gather_first_text(teacher) or "")
        if self.skips:
            return f"float16 has skipped {self.skips} steps in a row, and no scale keeps the gradient finite"
        names = [plain_name(name) for name, norm in gradients.items() if not math.isfinite(norm)]
        # The backward pass reaches the last module first.
        if gradient := processes.gather_first_text(names[-1] if names else None):
            return f"the gradient of {gradient} is not finite"
        weights = [name for name, p in module.named_parameters() if not tensor_norms([p.detach()]).isfinite().all()]
        if weight := processes.gather_first_text(plain_name(weights[0]) if weights else None):
            return f"the weight {weight} is not finite after the step"
        return "the norm of the gradient is not finite"

    def _message(self, trainer: Trainer, module: LightningModule, cause: str) -> str:
        clip, precision = trainer.gradient_clip_val, str(trainer.precision)
        remedies = [f"a lower optimizer.lr (now {module.values.lr:.3g})"]
        remedies.append(f"a lower trainer.gradient_clip_val (now {clip})" if clip else "trainer.gradient_clip_val: 1.0")
        if precision != "32-true":
            remedies.append(f"trainer.precision: {'bf16-mixed' if precision.startswith('16') else '32-true'}")
        stopped = f"stopped at step {trainer.global_step} of {self.total}: {cause}"
        return f"{stopped}; nothing is deployed, the checkpoints are of earlier steps; try {', or '.join(remedies)}"


def tensor_norms(tensors: list[Tensor]) -> Tensor:
    """Return the norm of each tensor in float32, [tensors]; of a sharded tensor that of the local shard."""
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return torch.stack(torch._foreach_norm(local, 2, torch.float32)) if local else torch.zeros(0)


def teacher_is_finite(trainer: Trainer, module: LightningModule, batch: dict[str, Tensor]) -> bool:
    """Return whether the teacher's logits for a batch are finite; True for a peer, which is trained itself."""
    if module.teacher is None or module.peer is not None:
        return True
    with trainer.precision_plugin.forward_context():
        logits = module.teacher.trace(batch, Signals(logits=True)).logits
    return not (logits.isnan().any() or logits.isposinf().any())
