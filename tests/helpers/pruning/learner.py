"""A model that is pruned by hand while it trains, and cut or not."""

import torch

from prune_schedules.schedule import Steps, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.shrink import cut_final
from quant_aware.quantize import Quantize
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.shapes import BRANCHES

TIMELINE = Timeline(total_steps=10, epoch_steps=10)


class Learner:
    """A model that trains by hand: pruned at step 3, and cut then or not."""

    def __init__(self, name: str, shares: dict[str, float], cuts: bool, quantize: bool = False):
        self.model, self.cuts, self.name, self.idle = tiny(name), cuts, name, []
        self.pruners = {
            shape: Magnitude(sparsity=Steps(at={"3 steps": share}), shape=shape, scope="global")
            for shape, share in shares.items()
        }
        for pruner in self.pruners.values():
            pruner.attach(self.model)
        if quantize:
            quantizer = Quantize()
            quantizer.attach(self.model)
            quantizer.update(0, TIMELINE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    def step(self, number: int) -> float:
        self.optimizer.zero_grad()
        loss = self.model(**batch(self.name, seed=number)).loss
        loss.backward()
        for bias in self.idle:
            bias.grad = None
        self.optimizer.step()
        for pruner in self.pruners.values():
            pruner.update(number, TIMELINE)
        if self.cuts:
            self.idle += cut_final(self.model, self.pruners, BRANCHES, number, TIMELINE, [self.optimizer])
        return float(loss.detach())


def pair(name: str, shares: dict[str, float], **given) -> tuple[Learner, Learner]:
    return Learner(name, shares, cuts=False, **given), Learner(name, shares, cuts=True, **given)
