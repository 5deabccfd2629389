"""Pruning of weights by their size and that of what they are multiplied with."""

from torch import Tensor, nn

from prune_schedules.ranking import magnitude
from prune_schedules.scores.inputs import ActivationScored
from prune_schedules.scores.pruner import ScoredPruner
from students.weights import full_parameter, out_axis


class Wanda(ActivationScored, ScoredPruner):
    """Removes what adds least to its output: ``|w| norm(x)`` (Sun et al. 2023, arXiv 2306.11695).

    ``|W_ij| sqrt(sum x_j^2)``, with ``scope: row`` as in the paper; of tiles, neurons, heads and layers the root
    mean square over the weights by which they are sent on. A bias, multiplied with nothing, has no part in it.
    """

    def collect(self, inputs: Tensor) -> Tensor:
        """``sum x_j^2``, [in]."""
        return inputs.square().sum(dim=0)

    def scores(self) -> list[Tensor]:
        """``|W_ij| norm(x_j)``."""
        return [magnitude(part.sent(self._weighted)) for part in self.parts]

    def _weighted(self, reader: nn.Module, name: str) -> Tensor:
        if name == "bias":
            return full_parameter(reader, name)[:0]
        norms = self.of(reader).sqrt()
        return full_parameter(reader) * (norms.unsqueeze(1) if out_axis(reader) else norms)
