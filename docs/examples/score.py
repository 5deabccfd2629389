"""A pruning score: the importance of each weight, tile or unit."""

from torch import Tensor

from distill import ScoredPruner


class RelativeImportance(ScoredPruner):
    """Removes weights small relative to their row and column (Zhang et al. 2024, ICLR, without activations)."""

    def scores(self) -> list[Tensor]:
        sizes = self.magnitudes()
        return [size / size.sum(0, keepdim=True) + size / size.sum(-1, keepdim=True) for size in sizes]
