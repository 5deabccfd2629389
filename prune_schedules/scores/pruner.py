"""The base class of pruners: shape, place, schedule and scope of what they remove."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from prune_schedules.ranking import Scope, keep_highest, magnitude
from prune_schedules.schedule import Constant, Schedule
from prune_schedules.scores.penalty import group_lasso
from prune_schedules.targets.make import make_targets
from prune_schedules.targets.shapes import Shape, find_prunable, resolve
from prune_schedules.timeline import Timeline, TimePoint
from students.structure.places import Where
from students.structure.units import Units
from students.weights import apply_weight_transforms, full_parameter, raw_parameter, shard_like

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Pruner(ABC):
    """Removes the least important weights, more and more of them, on the schedule of ``sparsity``.

    Masks are functions of the weights, of collected statistics and of the step. The statistics are the same on all
    ranks of a DDP run, and so are the masks; all of it is saved, so that a resumed run continues exactly.
    """

    prunes: ClassVar[bool] = True
    needs_full_weights: ClassVar[bool] = False
    """Whether it reads weights other than by ``students.weights.full_parameter``, so that they must not be sharded."""
    reads_inputs: ClassVar[bool] = False
    """Whether it collects the inputs of layers, at its ``active_steps``."""

    sparsity: Schedule
    """The ratio of weights or units that are removed, 0 to 1; usually ``Cubic``."""
    shape: Shape | list[int] = "elements"
    """The unit of pruning: ``elements`` (single weights), tiles of them as in ``[4, 4]`` (outputs, inputs), ``neurons``
    of the feed-forward, attention ``heads``, ``layers`` (whole attentions and feed-forwards), ``hidden`` dimensions of
    the model, ``ranks`` of low-rank layers, or ``experts``, which a router chooses for each token."""
    where: list[Where] | None = None
    """Which weights; by default attention, ffn and recurrence, for neurons and heads the one they are part of, for
    hidden all."""
    scope: Scope | None = None
    """What competes: ``layer`` (the default, except for L0): the items of one weight, of neurons and heads those of one
    block; ``global``: all items (the default of L0; of layers and hidden the only one); ``distribution``: all items,
    relative to the root mean square of their own weight; ``row``: the inputs of one output; a number: so many
    neighbouring inputs of one output (4 and a sparsity of 0.5 is 2:4)."""
    every: TimePoint = TimePoint("1%")
    """The period of mask updates while the sparsity changes."""
    penalty: Schedule = Constant(0.0)
    """The factor of the group lasso over the items (L1 of single weights), a term of the loss."""
    dropout: Schedule = Constant(0.0)
    """The probability that an item is dropped in a training step, drawn at each (LayerDrop: Fan, Grave and Joulin 2019,
    arXiv 1909.11556)."""

    def __post_init__(self) -> None:
        self.scope, self.where = resolve(self.shape, self.scope, self.where)
        if self.every.amount == 0:
            raise ValueError(f"every: must be above 0, not {self.every}; '1 steps' updates the masks at each step")

    @property
    def prunes_hidden(self) -> bool:
        """Return whether hidden dimensions are removed."""
        return self.shape == "hidden"

    @property
    def prunes_experts(self) -> bool:
        """Return whether experts are removed."""
        return self.shape == "experts"

    @property
    def prunes_embeddings(self) -> bool:
        """Return whether weights of embeddings are removed."""
        return self.prunes_hidden or "embeddings" in (self.where or ())

    @property
    def cuts_units(self) -> bool:
        """Return whether rows and columns of weights can be cut out afterwards; whole layers do not count."""
        return self.shape in ("neurons", "heads", "hidden", "ranks")

    def active_steps(self, timeline: Timeline) -> list[range]:
        """Return the steps at which it collects statistics, as ranges."""
        return [range(timeline.total_steps)]

    @abstractmethod
    def update_masks(self, sparsity: float) -> None:
        """Mask this ratio (above 0) of the items of ``targets``, whatever was masked before."""

    def check(self, timeline: Timeline) -> None:
        """Check all schedules before the first step.

        Raises:
            ValueError: if a time point lies outside the run, the sparsity outside 0 to 1 or, in the end, between two
                that a group can have, a probability outside 0 to 1, or a penalty below 0.
        """
        start, stop, _ = self._window(timeline)
        for step in self.sparsity.extremes(timeline, start, stop):
            if not 0 <= (sparsity := self.sparsity.value(step, timeline)) <= 1:
                raise ValueError(f"sparsity: is {sparsity} at step {step}; it must be from 0 to 1")
        final = self.sparsity.value(stop, timeline)
        if isinstance(self.scope, int) and abs(final - round(final * self.scope) / self.scope) > 1e-6:
            possible = f"{round(final * self.scope) / self.scope:.6g}"
            raise ValueError(f"sparsity: ends at {final}, which groups of {self.scope} cannot have; write {possible}")
        limits = {"penalty": (math.inf, "at least 0"), "dropout": (1, "a probability, at least 0 and below 1")}
        for name, (limit, allowed) in limits.items():
            schedule = getattr(self, name)
            for step in schedule.extremes(timeline):
                if not 0 <= (value := schedule.value(step, timeline)) < limit:
                    raise ValueError(f"{name}: is {value} at step {step}; it must be {allowed}")

    def find(self, model: PreTrainedModel) -> list[nn.Module] | list[Units]:
        """Find what can be removed, without changing the model.

        Sets ``weights``, the modules whose weight is pruned, and ``skipped``, why others are left out, by name.

        Returns:
            Modules with a weight, or units; of hidden dimensions those that write and those that read them.

        Raises:
            ValueError: if the family of the model is not known, nothing is left to prune, or a weight does not divide
                into tiles or groups.
        """
        scope, where = resolve(self.shape, self.scope, self.where)
        prunable, self.weights, self.skipped = find_prunable(model, self.shape, scope, where)
        return prunable

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Add masks to the model, all disabled; before a checkpoint is loaded and before the model is wrapped.

        Sets ``targets``, and ``sizes``, the entries of the pruned weights. ``seed`` is that of the random numbers.

        Raises:
            ValueError: as ``find``.
        """
        self.seed = seed
        self.targets = make_targets(self.shape, self.find(model))
        self.sizes = {module: raw_parameter(module).numel() for module in self.weights.values()}

    def final_mask_step(self, timeline: Timeline) -> int:
        """Return the step from which the masks are final; after the run if there is dropout."""
        return self._window(timeline)[1] if self.dropout == Constant(0.0) else timeline.total_steps + 1

    def _window(self, timeline: Timeline) -> tuple[int, int, int]:
        """Return the first and last step at which masks change, and the period; an ``initial`` sparsity starts at 0."""
        start, stop = self.sparsity.span(timeline)
        return 0 if self.sparsity.value(0, timeline) > 0 else start, stop, max(1, self.every.step(timeline))

    def is_due(self, step: int, timeline: Timeline) -> bool:
        """Return whether masks are updated at a step: each ``every`` in the schedule's window, and at its end."""
        start, stop, period = self._window(timeline)
        return step == stop or (start <= step < stop and (step - start) % period == 0)

    @torch.no_grad()
    def update(self, step: int, timeline: Timeline) -> None:
        """Update the masks if they are due at a step; otherwise compute nothing."""
        if not self.is_due(step, timeline):
            return
        if (sparsity := self.sparsity.value(step, timeline)) > 0:
            self.update_masks(sparsity)
        else:
            for target in self.targets:
                target.keep_all()

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Prepare a training batch: drop items at random; subclasses start to collect statistics."""
        if (probability := self.dropout.value(step, timeline)) > 0:
            for target, numbers in zip(self.targets, self.random_numbers(step), strict=True):
                target.set_gates((numbers >= probability).to(next(target.reader.parameters()).device, torch.float32))

    def before_optimizer_step(self, step: int, timeline: Timeline) -> None:
        """End what ``before_forward`` started; gradients are the same on all ranks, and not clipped yet."""
        if self.dropout != Constant(0.0):
            for target in self.targets:
                target.set_gates(None)

    def random_numbers(self, step: int) -> list[Tensor]:
        """Return a number in [0, 1) for each item, on the CPU: a function of the seed, the step and the pruner."""
        name = f"{type(self).__name__} {self.shape} {self.where} {self.seed} {step}"
        generator = torch.Generator().manual_seed(random.Random(name).getrandbits(63))
        return [torch.rand(target.shape, generator=generator, device="cpu") for target in self.targets]

    def add_penalty_gradients(self, step: int, timeline: Timeline) -> float:
        """Add the gradients of the penalty, and return its value; masked and cut items do not count."""
        targets = self.targets if (factor := self.penalty.value(step, timeline)) else []
        leaves = {p: full_parameter(*p).detach().requires_grad_() for target in targets for p in target.parameters}
        totals = {p: None if (raw := raw_parameter(*p)) is None else raw.grad for p in leaves}
        if all(total is None for total in totals.values()):
            return 0.0
        with torch.enable_grad():
            masked = {parameter: apply_weight_transforms(*parameter, leaf) for parameter, leaf in leaves.items()}
            groups = [target.entries(lambda *parameter: masked[parameter]) for target in targets]
            penalty = factor * group_lasso(groups)
            gradients = torch.autograd.grad(penalty, list(leaves.values()), allow_unused=True)
        for total, gradient in zip(totals.values(), gradients, strict=True):
            if gradient is not None and total is not None:
                total.add_(shard_like(gradient, total))
        return float(penalty.detach())

    def state_dict(self) -> dict[str, object]:
        """Return the collected statistics, for the checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Load the result of ``state_dict``."""

    def current_sparsity(self) -> float:
        """Return the ratio of the entries, neurons, heads or layers that are masked or cut out."""
        counts = [target.count_masked() for target in self.targets]
        return sum(masked for masked, _ in counts) / sum(total for _, total in counts)


class ScoredPruner(Pruner):
    """Removes the items with the lowest scores; a subclass defines the scores."""

    @abstractmethod
    def scores(self) -> list[Tensor]:
        """Return the importance of each item, a tensor for each of ``targets``, in the shapes of ``magnitudes``.

        It is called after an optimizer step, without gradients, and must return the same on all ranks.
        """

    def magnitudes(self) -> list[Tensor]:
        """Return the magnitude of each weight, of tiles and units their root mean square, for each of ``targets``.

        Shapes: [outputs, inputs] of weights and tiles, [count] of units; full tensors, also of a sharded model.
        """
        return [magnitude(target.entries(full_parameter)) for target in self.targets]

    def update_masks(self, sparsity: float) -> None:
        """Mask the items with the lowest scores, within ``scope``."""
        if self.shape == "layers":  # without any layer the model would be its embeddings
            sparsity = min(sparsity, 1 - 1 / len(self.targets))
        scope, _ = resolve(self.shape, self.scope, self.where)
        kept = keep_highest(self.scores(), sparsity, scope, self.targets[0].min_kept)
        for target, items in zip(self.targets, kept, strict=True):
            target.keep(items)
