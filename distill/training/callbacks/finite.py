"""Stops a run at the step at which a number of it is no longer finite, before a checkpoint or an average holds it."""

from __future__ import annotations

import math

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor

from students import processes
from students.loading.finite_weights import plain_name
from students.recording.signals import Signals

SKIPPED = 20
"""Steps in a row that float16 may skip while it looks for its scale: 2^16 has become less than 1 by then."""


class NonFinite(Exception):
    """A number of the run is NaN or infinite; the message is the one line to print."""


class Finite(Callback):
    """Looks at the losses, the gradient and the weights of every step, and at the outputs of every validation.

    It comes after the callbacks that change weights and before those that keep them. The norms of all tensors are
    taken on the device, and one small tensor is read at the end of a step. All ranks agree on stopping; which number
    it was is looked for only then. With a gradient scaler (16-mixed) a step whose gradient is not finite is skipped
    and counts only if it is one of many.

    Args:
        total: the last step.
    """

    def __init__(self, total: int):
        self.total = total
        self.losses: dict[str, Tensor] = {}
        self.gradients: tuple[list[str], Tensor] | None = None
        self.skips = 0
        self.outputs: Tensor | None = None

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take the norms of the gradient, before it is clipped: a clipped one is NaN everywhere."""
        trained = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        self.losses = dict(module.totals)
        self.gradients = list(trained), norms(list(trained.values()))

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: dict[str, Tensor], index: int
    ) -> None:
        """Look at the step that was done, at the end of its accumulation window.

        Raises:
            NonFinite: on all ranks, if a loss, the gradient or a weight of any of them is not finite.
        """
        if self.gradients is None:
            return
        (names, gradients), self.gradients = self.gradients, None
        weights = norms([p.detach() for p in module.parameters()])
        losses = torch.stack([value.float() for value in self.losses.values()]) if self.losses else weights[:0]
        # the norm of norms as well: what clipping divides by may be infinite although no number is
        finite = torch.stack(
            [part.isfinite().all() for part in (losses, weights, torch.linalg.vector_norm(gradients))]
        ).tolist()
        steps = getattr(trainer.precision_plugin, "scaler", None) is not None and finite[:2] == [True, True]
        self.skips = self.skips + 1 if steps and not finite[2] else 0
        bad = not all(finite) and (not self.skips or self.skips >= min(SKIPPED, self.total))
        if trainer.strategy.reduce_boolean_decision(bad, all=False):
            cause = self._cause(trainer, module, batch, dict(zip(names, gradients.tolist(), strict=True)))
            raise NonFinite(self._message(trainer, module, cause))

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin without outputs."""
        self.outputs = torch.zeros((), dtype=torch.bool, device=module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Tensor, batch: dict, index: int, loader: int = 0
    ) -> None:
        """Look at the outputs that are judged; minus infinity is what a class has that is out of the question."""
        self.outputs |= outputs.isnan().any() | outputs.isposinf().any()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Look at the metrics. One that is NaN although all outputs are finite is undefined, as the correlation with
        a constant is: that is a warning of the report.

        Raises:
            NonFinite: on all ranks, if an output is not finite on any of them, or a metric is infinite.
        """
        if trainer.strategy.reduce_boolean_decision(bool(self.outputs), all=False):
            cause = "the student's outputs on the validation rows are not finite"
            raise NonFinite(self._message(trainer, module, cause))
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/") and float(value) in (float("inf"), float("-inf")):
                raise NonFinite(self._message(trainer, module, f"{name} is {float(value)}"))

    def _cause(self, trainer: Trainer, module: LightningModule, batch: dict, gradients: dict[str, float]) -> str:
        """What was not finite first on any rank: a loss, then the gradient, then a weight.

        All ranks call it and go the same way: what one sees as a loss reaches the others as a gradient, and a teacher
        in shards runs on all of them or on none.
        """
        losses = [f"the loss {name!r} is {float(value)}" for name, value in self.losses.items() if not value.isfinite()]
        if loss := processes.gather_first_text(next(iter(losses), None)):
            teacher = None if teacher_is_finite(trainer, module, batch) else ", and so are the teacher's outputs"
            return loss + (processes.gather_first_text(teacher) or "")
        if self.skips:
            return f"float16 has skipped {self.skips} steps in a row, and no scale keeps the gradient finite"
        names = [plain_name(name) for name, norm in gradients.items() if not math.isfinite(norm)]
        # The backward pass comes to the last module first.
        if gradient := processes.gather_first_text(names[-1] if names else None):
            return f"the gradient of {gradient} is not finite"
        weights = [name for name, p in module.named_parameters() if not norms([p.detach()]).isfinite().all()]
        if weight := processes.gather_first_text(plain_name(weights[0]) if weights else None):
            return f"the weight {weight} is not finite after the step"
        return "the norm of the gradient is not finite"

    def _message(self, trainer: Trainer, module: LightningModule, cause: str) -> str:
        clip, precision = trainer.gradient_clip_val, str(trainer.precision)
        remedies = [f"a lower optimizer.lr (now {module.values.lr:.3g})"]
        remedies.append(f"a lower trainer.gradient_clip_val (now {clip})" if clip else "trainer.gradient_clip_val: 1.0")
        if precision != "32-true":
            remedies.append(f"trainer.precision: {'bf16-mixed' if precision.startswith('16') else '32-true'}")
        where = f"stopped at step {trainer.global_step} of {self.total}: {cause}"
        return f"{where}; nothing is deployed, the checkpoints are of earlier steps; try {', or '.join(remedies)}"


def norms(tensors: list[Tensor]) -> Tensor:
    """The norm of each tensor in float32, [N]; of one in shards that of this process's."""
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return torch.stack(torch._foreach_norm(local, 2, torch.float32)) if local else torch.zeros(0)


def teacher_is_finite(trainer: Trainer, module: LightningModule, batch: dict[str, Tensor]) -> bool:
    """Whether a teacher's outputs for a batch are; a peer is trained itself and not asked."""
    if module.teacher is None or module.peer is not None:
        return True
    with trainer.precision_plugin.forward_context():
        logits = module.teacher.trace(batch, Signals(logits=True)).logits
    return not (logits.isnan().any() or logits.isposinf().any())
