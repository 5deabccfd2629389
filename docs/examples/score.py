"""A pruning score: how much each weight, tile or unit matters."""

from torch import Tensor

from distill import ScoredPruner


class RelativeImportance(ScoredPruner):
    """Removes what is small beside its row and its column (Zhang et al. 2024, ICLR, without activations)."""

    def scores(self) -> list[Tensor]:
        sizes = self.magnitudes()
        return [size / size.sum(0, keepdim=True) + size / size.sum(-1, keepdim=True) for size in sizes]
