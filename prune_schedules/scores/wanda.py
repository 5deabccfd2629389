"""Pruning by weights and activations: the magnitude of a weight times the norm of its input."""

from torch import Tensor, nn

from prune_schedules.ranking import magnitude
from prune_schedules.scores.inputs import ActivationScored
from prune_schedules.scores.pruner import ScoredPruner
from students.weights import full_parameter, out_axis


class Wanda(ActivationScored, ScoredPruner):
    """Removes the weights that contribute least to their output: ``|w| norm(x)`` (Sun et al. 2023, arXiv 2306.11695).

    ``|W_ij| sqrt(sum x_j^2)``, with ``scope: row`` as in the paper; of tiles, neurons, heads and layers the root
    mean square over the weights that read them. A bias has no input and does not count.
    """

    def collect(self, inputs: Tensor) -> Tensor:
        """Return ``sum x_j^2``, [in]."""
        return inputs.square().sum(dim=0)

    def scores(self) -> list[Tensor]:
        """Return ``|W_ij| norm(x_j)``."""
        return [magnitude(target.outgoing_entries(self._weighted)) for target in self.targets]

    def _weighted(self, reader: nn.Module, name: str) -> Tensor:
        if name == "bias":
            return full_parameter(reader, name)[:0]
        norms = self.statistics_of(reader).sqrt()
        return full_parameter(reader) * (norms.unsqueeze(1) if out_axis(reader) else norms)
