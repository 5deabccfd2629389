"""When and what to remove: schedules over the run, scores, masks on weights, and cutting for good."""

from prune_schedules.cut import CutReport, cut
from prune_schedules.prune import Magnitude, Prune, Pruner
from prune_schedules.schedule import Constant, Cosine, Cubic, Cyclic, Linear, Moment, Schedule, Steps, Timeline

__all__ = [
    "Constant", "Cosine", "Cubic", "CutReport", "Cyclic", "Linear", "Magnitude", "Moment", "Prune", "Pruner", "Schedule",
    "Steps", "Timeline", "cut",
]
