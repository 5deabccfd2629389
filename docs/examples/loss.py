"""A loss declares the signals that it needs, and returns a sum and a count."""

from dataclasses import dataclass

from torch import Tensor

from distill import LogitsLoss, LossValues


@dataclass(kw_only=True, eq=False)
class Hellinger(LogitsLoss):
    """The squared Hellinger distance of the predictions, ``1/2 |sqrt(p_S) - sqrt(p_T)|^2``.

    Args:
        temperature: the logits are divided by it.
    """

    temperature: float = 1.0

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        roots = ((logits.float() / self.temperature).softmax(-1).sqrt() for logits in (student, teacher))
        return 0.5 * (next(roots) - next(roots)).square().sum(-1)
