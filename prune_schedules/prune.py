"""Gradual pruning: masks on the weights, moved along a schedule of sparsity while the model trains."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from transformers import PreTrainedModel

from prune_schedules.mask import Mask
from prune_schedules.prunable import Entries, Whole
from prune_schedules.schedule import Moment, Schedule, Timeline
from prune_schedules.scores import Scope, lowest, magnitude
from students.units import Units, branches, heads, home, neurons
from students.weights import Where, latent, select, uses

Shape = Literal["elements", "neurons", "heads", "layers"]
_WHERE: dict[Shape, list[Where]] = {
    "elements": ["attention", "ffn"],
    "neurons": ["ffn"],
    "heads": ["attention"],
    "layers": ["attention", "ffn"],
}


@dataclass(kw_only=True)
class Pruner(ABC):
    """Removes the weights that matter least, more and more of them, as ``sparsity`` says.

    Masks are functions of the weights and of the step alone. Nothing in them is random, so the ranks of a DDP
    run, whose weights are equal, find equal masks; they are saved with the weights, so a resumed run goes on
    exactly.
    """

    sparsity: Schedule
    """The share that is removed, 0 to 1; as a rule ``Cubic``."""
    shape: Shape = "elements"
    """What is removed: single weights, neurons of the feed-forward, attention heads, or layers: whole attentions and
    feed-forwards."""
    where: list[Where] | None = None
    """Which weights; by default attention and ffn, for neurons and heads the one they live in."""
    scope: Scope | None = None
    """Whether each weight (or block, for neurons and heads) loses this share, or all are ranked together; by default
    ``layer``, for layers ``global``."""
    every: Moment = Moment("1%")
    """How often the masks are renewed while the sparsity changes."""

    def __post_init__(self):
        if self.scope is None:
            self.scope = "global" if self.shape == "layers" else "layer"
        for name, allowed in (("shape", get_args(Shape)), ("scope", get_args(Scope))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        home = _WHERE[self.shape]
        self.where = list(home) if self.where is None else self.where
        if not self.where or set(self.where) - set(get_args(Where)):
            raise ValueError(f"where: {self.where} is not a choice of {', '.join(get_args(Where))}")
        if self.shape == "layers" and self.scope != "global":
            raise ValueError(f"scope: layers are ranked over the whole model; it is global, not {self.scope}")
        if self.shape == "layers" and set(self.where) - set(home):
            raise ValueError(f"where: layers are in {' and '.join(home)} only, not in {', '.join(self.where)}")
        if self.shape in ("neurons", "heads") and self.where != home:
            raise ValueError(f"where: {self.shape} are in {home[0]} only, not in {', '.join(self.where)}")

    @abstractmethod
    def score(self, weight: Tensor) -> Tensor:
        """How much each entry of a weight matters, in its shape; a unit counts by their root mean square."""

    def check(self, timeline: Timeline) -> None:
        """Look through the whole schedule before the first step.

        Raises:
            ValueError: if a moment lies outside the run, or the sparsity outside 0 to 1.
        """
        start, stop, period = self._window(timeline)
        for step in [*range(start, stop, period), stop]:
            if not 0 <= self.sparsity.value(step, timeline) <= 1:
                value = self.sparsity.value(step, timeline)
                raise ValueError(f"sparsity: is {value} at step {step}; it is a share, from 0 to 1")

    def attach(self, model: PreTrainedModel) -> None:
        """Put masks on the model, all off; before a checkpoint is read and before the model is wrapped.

        ``weights`` are the modules whose weight is pruned, by name, ``skipped`` what was left out, with the
        reason.

        Raises:
            ValueError: if the family of the model is not known, or nothing is left to prune.
        """
        if self.shape == "elements":
            self.weights, self.skipped = select(model, self.where)
            self._ranked: list[Entries | Whole] = [Entries(module) for module in self.weights.values()]
        else:
            of_shape = {"neurons": neurons, "heads": heads, "layers": branches}[self.shape]
            found = [units for units in of_shape(model) if home(units) in self.where]
            chosen, self.weights, self.skipped = untied(model, found)
            self._ranked = [Whole(units, 0 if self.shape == "layers" else 1) for units in chosen]
        if not self._ranked:
            raise ValueError(f"where: there is nothing to prune in {', '.join(self.where)}")

    def _window(self, timeline: Timeline) -> tuple[int, int, int]:
        ends = [moment.step(timeline) for moment in self.sparsity.moments().values()] or [0]
        return min(ends), max(ends), max(1, self.every.step(timeline))

    def due(self, step: int, timeline: Timeline) -> bool:
        """Whether masks are renewed at ``step``: each ``every`` in the schedule's window, and its end."""
        start, stop, period = self._window(timeline)
        return step == stop or (start <= step < stop and (step - start) % period == 0)

    @torch.no_grad()
    def update(self, step: int, timeline: Timeline) -> None:
        """Renew the masks if they are due at ``step``; otherwise nothing is computed."""
        if not self.due(step, timeline):
            return
        scores = [part.scores(self.score) for part in self._ranked]
        share = self.sparsity.value(step, timeline)
        if self.shape == "layers":  # without any, the model is its embeddings
            share = min(share, 1 - 1 / len(scores))
        kept = lowest(scores, share, self.scope, self._ranked[0].at_least)
        for part, keep in zip(self._ranked, kept, strict=True):
            part.keep(keep)

    def sparsity_now(self) -> float:
        """The share of the entries, neurons, heads or layers that is masked."""
        masked = [part.masked() for part in self._ranked]
        return sum(gone for gone, _ in masked) / sum(total for _, total in masked)


def untied(model: PreTrainedModel, found: list[Units]) -> tuple[list[Units], dict[str, nn.Module], dict[str, str]]:
    """The units of which no number is used elsewhere, their modules by name, and the rest with the reason."""
    users, chosen, weights, skipped = uses(model), [], {}, {}
    for units in (units for units in found if units.count):
        names = {part: users[id(latent(part.module, part.name))] for part in units.slices}
        shared = sorted({name for part in units.slices if len(names[part]) > 1 for name in names[part]})
        if shared:
            skipped[units.name] = f"tied: {', '.join(shared)}"
        else:
            chosen.append(units)
            weights |= {
                names[part][0].removesuffix(".weight"): part.module for part in units.slices if part.name == "weight"
            }
    return chosen, weights, skipped


class Magnitude(Pruner):
    """Removes what is smallest (Zhu and Gupta 2017, arXiv 1710.01878); neurons and heads by their L2 norm."""

    def score(self, weight: Tensor) -> Tensor:
        """``|w|``."""
        return magnitude(weight)


class Prune(Callback):
    """Moves the masks of named pruners on ``module.student``, along ``module.timeline``.

    Masks of several pruners on one weight follow each other. They move right after the optimizer's step, so
    validation and checkpoints of a step see the sparsity of that step. No rank has masks of its own:
    ``DDPStrategy(broadcast_buffers=False)`` saves sending them at every forward pass.
    """

    def __init__(self, pruners: dict[str, Pruner]):
        self.pruners = pruners
        self._step: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the masks on, before a checkpoint is restored and the model is wrapped."""
        if stage == "fit":
            for pruner in self.pruners.values():
                pruner.attach(pl_module.student)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the schedules and set the masks of the first step; after resuming they come out as saved."""
        for pruner in self.pruners.values():
            pruner.check(pl_module.timeline)
        self._move(trainer.global_step, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the masks if the optimizer has made a step."""
        if trainer.global_step != self._step:
            self._move(trainer.global_step, pl_module)

    def _move(self, step: int, module: LightningModule) -> None:
        due = self._step is None or any(pruner.due(step, module.timeline) for pruner in self.pruners.values())
        self._step = step
        for pruner in self.pruners.values():
            pruner.update(step, module.timeline)
        if due:
            module.status["sparsity"] = self.sparsity

    @property
    def skipped(self) -> dict[str, str]:
        """What the pruners left out, by name, and why."""
        return {name: why for pruner in self.pruners.values() for name, why in pruner.skipped.items()}

    @property
    def sparsity(self) -> float:
        """The share of masked entries in all weights that the pruners select, counted in the masks."""
        modules = {module for pruner in self.pruners.values() for module in pruner.weights.values()}
        kept = sum(int(self._kept(module).sum()) for module in modules)
        return 1 - kept / sum(latent(module).numel() for module in modules)

    @staticmethod
    def _kept(module: nn.Module) -> Tensor:
        kept = torch.ones_like(latent(module), dtype=torch.bool)
        for step in module.parametrizations.weight:
            if isinstance(step, Mask):
                kept = kept & step.mask
        return kept
