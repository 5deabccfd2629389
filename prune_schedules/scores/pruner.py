"""What all pruners share: in which shape they remove, where, on which schedule, and what competes with what."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from prune_schedules.ranking import Scope, lowest, magnitude
from prune_schedules.schedule import Constant, Schedule, Timeline, TimePoint
from prune_schedules.scores.penalty import group_lasso
from prune_schedules.targets.elements import ElementTarget
from prune_schedules.targets.hidden import HiddenTarget
from prune_schedules.targets.shapes import Shape, choose, find, tile
from prune_schedules.targets.target import PruneTarget
from prune_schedules.targets.units import UnitTarget
from students.structure.units import Units
from students.weights import Where, apply_weight_transforms, full_parameter, raw_parameter, shard_like

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Pruner(ABC):
    """Removes the weights that matter least, more and more of them, as ``sparsity`` says.

    Masks are functions of the weights, of what was seen and of the step. What is seen is the same on all ranks of
    a DDP run, and so are the masks; all of it is saved, so a resumed run goes on exactly.
    """

    prunes: ClassVar[bool] = True
    needs_full_weights: ClassVar[bool] = False
    """Whether it does not look at weights by ``students.weights.full_parameter``, so that they must not be sharded."""
    reads_inputs: ClassVar[bool] = False
    """Whether it looks at what layers read, at its ``active_steps``."""

    sparsity: Schedule
    """The share that is removed, 0 to 1; as a rule ``Cubic``."""
    shape: Shape | list[int] = "elements"
    """What is removed: single weights, tiles of them as in ``[4, 4]`` (outputs, inputs), neurons of the feed-forward,
    attention heads, layers: whole attentions and feed-forwards, or hidden dimensions of the model."""
    where: list[Where] | None = None
    """Which weights; by default attention, ffn and recurrence, for neurons and heads the one they live in, for hidden
    all."""
    scope: Scope | None = None
    """What competes: ``layer`` (the default, but of L0): all of one weight, or block for neurons and heads; ``global``:
    all (the default of L0; of layers and hidden the only one); ``distribution``: all, by how they stand in their own
    weight; ``row``: what leads to one output; a number: so many neighbouring inputs of one output (4 and a sparsity of
    0.5 is 2:4)."""
    every: TimePoint = TimePoint("1%")
    """How often the masks are renewed while the sparsity changes."""
    penalty: Schedule = Constant(0.0)
    """The factor of the group lasso over what can be removed (L1 of single weights), a term of the loss."""
    drop: Schedule = Constant(0.0)
    """The probability that what can be removed is left out of a training step, drawn anew for each (LayerDrop: Fan,
    Grave and Joulin 2019, arXiv 1909.11556)."""

    def __post_init__(self):
        self.scope, self.where = choose(self.shape, self.scope, self.where)
        if self.every.amount == 0:
            raise ValueError(f"every: {self.every} is no time; masks are renewed at each step with '1 steps'")

    @property
    def prunes_hidden(self) -> bool:
        """Whether hidden dimensions are removed."""
        return self.shape == "hidden"

    @property
    def prunes_embeddings(self) -> bool:
        """Whether numbers of embeddings are removed."""
        return self.prunes_hidden or "embeddings" in self.where

    @property
    def cuts_units(self) -> bool:
        """Whether rows and columns of weights can be cut out afterwards, but for whole layers."""
        return self.shape in ("neurons", "heads", "hidden", "ranks")

    def active_steps(self, timeline: Timeline) -> list[range]:
        """Return the steps in which it looks at what happens, in stretches."""
        return [range(timeline.total_steps)]

    @abstractmethod
    def renew(self, share: float) -> None:
        """Mask this share (above 0) of ``parts``, whatever was masked before."""

    def check(self, timeline: Timeline) -> None:
        """Look through the whole schedule before the first step.

        Raises:
            ValueError: if a moment lies outside the run, the sparsity outside 0 to 1 or, in the end, between two
                shares of a group, a probability outside 0 to 1, or a penalty below 0.
        """
        start, stop, _ = self._window(timeline)
        for step in self.sparsity.extremes(timeline, start, stop):
            if not 0 <= self.sparsity.value(step, timeline) <= 1:
                value = self.sparsity.value(step, timeline)
                raise ValueError(f"sparsity: is {value} at step {step}; it is a share, from 0 to 1")
        end = self.sparsity.value(stop, timeline)
        if isinstance(self.scope, int) and abs(end - round(end * self.scope) / self.scope) > 1e-6:
            share = f"{round(end * self.scope) / self.scope:.6g}"
            raise ValueError(f"sparsity: ends at {end}; of groups of {self.scope} that is {share}: write {share}")
        limits = {"penalty": (math.inf, "a factor, from 0 up"), "drop": (1, "a probability, from 0 to below 1")}
        for name, (limit, kind) in limits.items():
            schedule = getattr(self, name)
            for step in schedule.extremes(timeline):
                if not 0 <= (value := schedule.value(step, timeline)) < limit:
                    raise ValueError(f"{name}: is {value} at step {step}; it is {kind}")

    def find(self, model: PreTrainedModel) -> list[nn.Module] | list[Units]:
        """What there is to remove, without touching the model: modules with a weight, or units; of hidden dimensions
        what makes them and what reads them.

        Sets ``weights``, the modules whose weight is pruned, by name, and ``skipped``, what is left out and why.

        Raises:
            ValueError: if the family of the model is not known, nothing is left to prune, or a weight does not divide
                into tiles or groups.
        """
        found, self.weights, self.skipped = find(model, self.shape, self.scope, self.where)
        return found

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Put masks on the model, all off; before a checkpoint is read and before the model is wrapped.

        ``parts`` are then what is ranked, ``sizes`` how many entries the pruned weights have. ``seed`` is that of
        what is drawn.

        Raises:
            ValueError: as ``find``.
        """
        self.seed = seed
        at_least, found = 0 if self.shape == "layers" else 1, self.find(model)
        self.parts: list[PruneTarget]
        if self.shape == "hidden":
            self.parts = [HiddenTarget(*found)]
        elif isinstance(found[0], Units):
            self.parts = [UnitTarget(units, at_least) for units in found]
        else:
            self.parts = [ElementTarget(module, tile(self.shape)) for module in found]
        self.sizes = {module: raw_parameter(module).numel() for module in self.weights.values()}

    def final_mask_step(self, timeline: Timeline) -> int:
        """The step from which the masks move no more: none of the run where something is left out of single steps."""
        return self._window(timeline)[1] if self.drop == Constant(0.0) else timeline.total_steps + 1

    def _window(self, timeline: Timeline) -> tuple[int, int, int]:
        """When masks begin and cease to move, and how often; what ``initial`` removes goes at once."""
        start, stop = self.sparsity.span(timeline)
        return 0 if self.sparsity.value(0, timeline) > 0 else start, stop, max(1, self.every.step(timeline))

    def due(self, step: int, timeline: Timeline) -> bool:
        """Whether masks are renewed at ``step``: each ``every`` in the schedule's window, and its end."""
        start, stop, period = self._window(timeline)
        return step == stop or (start <= step < stop and (step - start) % period == 0)

    @torch.no_grad()
    def update(self, step: int, timeline: Timeline) -> None:
        """Renew the masks if they are due at ``step``; otherwise nothing is computed."""
        if not self.due(step, timeline):
            return
        share = self.sparsity.value(step, timeline)
        if share > 0:
            self.renew(share)
        else:
            for part in self.parts:
                part.keep_all()

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Called before each batch: draws what is left out of the step; scores look at what happens in it."""
        probability = self.drop.value(step, timeline)
        if probability > 0:
            for part, draw in zip(self.parts, self.draw(step), strict=True):
                part.set_gates((draw >= probability).to(raw_parameter(part.reader).device, torch.float32))

    def before_step(self, step: int, timeline: Timeline) -> None:
        """Called when the gradients are there, the same on all ranks, and have not been clipped."""
        if self.drop != Constant(0.0):
            for part in self.parts:
                part.set_gates(None)

    def draw(self, step: int) -> list[Tensor]:
        """A number in [0, 1) for each entry, tile or unit, on the CPU: a function of the seed, the step and what is
        pruned."""
        name = f"{type(self).__name__} {self.shape} {self.where} {self.seed} {step}"
        generator = torch.Generator().manual_seed(random.Random(name).getrandbits(63))
        return [torch.rand(part.shape, generator=generator, device="cpu") for part in self.parts]

    def penalize(self, step: int, timeline: Timeline) -> float:
        """Add the gradient of the penalty, and tell its value; what is masked or cut out has no part in it."""
        factor = self.penalty.value(step, timeline)
        parts = self.parts if factor else []
        leaves = {place: full_parameter(*place).detach().requires_grad_() for part in parts for place in part.places}
        if all(raw_parameter(*place).grad is None for place in leaves):
            return 0.0
        with torch.enable_grad():
            now = {place: apply_weight_transforms(*place, leaf) for place, leaf in leaves.items()}
            value = factor * group_lasso([part.numbers(lambda *place: now[place]) for part in parts])
            found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        for place, gradient in zip(leaves, found, strict=True):
            there = raw_parameter(*place).grad
            if gradient is not None and there is not None:
                there.add_(shard_like(gradient, there))
        return float(value.detach())

    def state(self) -> dict[str, object]:
        """What was seen and is needed to go on, for the checkpoint."""
        return {}

    def load_state(self, state: dict[str, object]) -> None:
        """Take up what ``state`` gave."""

    def sparsity_now(self) -> float:
        """The share of the entries, neurons, heads or layers that is masked or cut out."""
        masked = [part.masked() for part in self.parts]
        return sum(gone for gone, _ in masked) / sum(total for _, total in masked)


class ScoredPruner(Pruner):
    """Removes what has the lowest scores; a subclass says what a score is."""

    @abstractmethod
    def scores(self) -> list[Tensor]:
        """Return how much each entry, tile or unit matters: a tensor for each of ``parts``, as ``magnitudes`` has them.

        It is asked after an optimizer step, without gradients, and must be the same on all ranks.
        """

    def magnitudes(self) -> list[Tensor]:
        """Return the size of each weight, of tiles and units their root mean square: a tensor for each of ``parts``.

        Shapes: [outputs, inputs] of weights and tiles, [units] of neurons, heads and layers. Of a model that is sharded
        they are whole.
        """
        return [magnitude(part.numbers(full_parameter)) for part in self.parts]

    def renew(self, share: float) -> None:
        """Mask this share, of what competes by ``scope``."""
        if self.shape == "layers":  # without any, the model is its embeddings
            share = min(share, 1 - 1 / len(self.parts))
        kept = lowest(self.scores(), share, self.scope, self.parts[0].at_least)
        for part, keep in zip(self.parts, kept, strict=True):
            part.keep(keep)
