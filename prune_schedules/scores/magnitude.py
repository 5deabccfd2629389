"""Pruning by the weights alone, and by chance."""

from torch import Tensor

from prune_schedules.scores.pruner import ScoredPruner


class Magnitude(ScoredPruner):
    """Removes what is smallest (Zhu and Gupta 2017, arXiv 1710.01878); groups by their root mean square."""

    def scores(self) -> list[Tensor]:
        """``|w|``, or ``sqrt(mean w^2)``."""
        return self.magnitudes()


class Random(ScoredPruner):
    """Removes what was drawn once, by chance: what any score has to beat."""

    def scores(self) -> list[Tensor]:
        """Uniform in [0, 1); the same at every step, so that what is gone stays gone."""
        return self.draw(0)
