"""When and what to remove: schedules over the run, scores, masks on weights, and cutting for good."""

from prune_schedules.cut import CutReport, cut
from prune_schedules.gates import Fisher, Movement, Taylor
from prune_schedules.keep import Keep
from prune_schedules.l0 import L0
from prune_schedules.magnitude import Magnitude, Random
from prune_schedules.prune import Prune
from prune_schedules.pruner import Pruner
from prune_schedules.sparsegpt import SparseGPT
from prune_schedules.wanda import Wanda

__all__ = [
    "L0",
    "CutReport",
    "Fisher",
    "Keep",
    "Magnitude",
    "Movement",
    "Prune",
    "Pruner",
    "Random",
    "SparseGPT",
    "Taylor",
    "Wanda",
    "cut",
]
