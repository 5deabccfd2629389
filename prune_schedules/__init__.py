"""When and what to remove: schedules over the run, scores, masks on weights, and cutting for good."""

from prune_schedules.scores.gates import Fisher, Movement, Taylor
from prune_schedules.scores.keep import Keep
from prune_schedules.scores.l0 import L0
from prune_schedules.scores.magnitude import Magnitude, Random
from prune_schedules.scores.pruner import Pruner
from prune_schedules.scores.sparsegpt import SparseGPT
from prune_schedules.scores.wanda import Wanda
from prune_schedules.structure.cut import CutReport, cut

__all__ = [
    "L0",
    "CutReport",
    "Fisher",
    "Keep",
    "Magnitude",
    "Movement",
    "Pruner",
    "Random",
    "SparseGPT",
    "Taylor",
    "Wanda",
    "cut",
]
