"""When and what to remove: schedules over the run, scores, masks on weights, and cutting for good."""

from prune_schedules.cut import CutReport, cut
from prune_schedules.prune import Magnitude, Prune, Pruner

__all__ = ["CutReport", "Magnitude", "Prune", "Pruner", "cut"]
