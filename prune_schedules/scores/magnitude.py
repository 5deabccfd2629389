"""Pruning by the magnitude of the weights, and at random."""

from torch import Tensor

from prune_schedules.scores.pruner import ScoredPruner


class Magnitude(ScoredPruner):
    """Removes the smallest weights (Zhu and Gupta 2017, arXiv 1710.01878); groups by their root mean square."""

    def scores(self) -> list[Tensor]:
        """Return ``|w|``, or ``sqrt(mean w^2)``."""
        return self.magnitudes()


class Random(ScoredPruner):
    """Removes items drawn once at random: a baseline for any score."""

    def scores(self) -> list[Tensor]:
        """Return uniform numbers in [0, 1), the same at every step, so that removed items stay removed."""
        return self.random_numbers(0)
