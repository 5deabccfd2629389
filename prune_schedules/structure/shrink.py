"""What is masked for good, neurons, heads and branches, leaves the student while it trains: its steps get faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prune_schedules.schedule import Timeline
from prune_schedules.structure.cut import COUNTED, stays
from prune_schedules.targets.mask import Mask
from prune_schedules.targets.units import UnitTarget
from students.structure.units import ShrunkParameter, Units, heads, neurons, shrink
from students.weights import get_weight_transforms, raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

if TYPE_CHECKING:
    from prune_schedules.scores.pruner import Pruner


def cut_live(targets: list[UnitTarget], keep: Tensor, optimizers: list[Optimizer], units: Units | None = None) -> None:
    """Cut out, in place, the units that ``keep`` (bool [count]) leaves out, and their part of the optimizers' state.

    The model computes what it computed with the masks, given f(0) = 0, and goes on training as it would have
    done, up to rounding. The masks of the units come off; other steps on the tensors stay, and are cut as well.

    Args:
        targets: the same units as each of the pruners that masks them sees them.
        keep: which stay.
        optimizers: those that may hold the parameters, between two steps.
        units: those that are cut, where ``targets`` are not of them alone.
    """
    modules = dict.fromkeys(module for target in targets for module, _ in target.places)
    units = units or targets[0].units
    for target in targets:
        target.release(int(keep.sum()))
    changes = shrink(units, keep)
    for optimizer in optimizers:
        for change in changes:
            exchange(optimizer, change)
        for module in modules:
            arrange(optimizer, module)


def exchange(optimizer: Optimizer, change: ShrunkParameter) -> None:
    """Put the new parameter in the place of the old, with what the optimizer knows of the entries that are left."""
    for group in optimizer.param_groups:
        group["params"][:] = [change.new if p is change.old else p for p in group["params"]]
    if change.old in optimizer.state:
        optimizer.state[change.new] = {
            key: value.index_select(change.axis, change.index)
            if isinstance(value, Tensor) and value.shape == change.old.shape
            else value
            for key, value in optimizer.state.pop(change.old).items()
        }


def arrange(optimizer: Optimizer, module: nn.Module) -> None:
    """Bring the parameters of a module into the order that they have in it now, where a step came off one of them:
    an optimizer's state is saved by order, and a resumed run makes its optimizer anew.
    """
    order = {id(p): number for number, p in enumerate(module.parameters())}
    for group in optimizer.param_groups:
        places = [i for i, p in enumerate(group["params"]) if id(p) in order]
        found = sorted((group["params"][i] for i in places), key=lambda p: order[id(p)])
        for i, p in zip(places, found, strict=True):
            group["params"][i] = p


def cut_branch(model: PreTrainedModel, targets: list[UnitTarget], optimizers: list[Optimizer]) -> list[nn.Parameter]:
    """Cut out all neurons or heads of a branch, in place, as ``cut_live``.

    Args:
        model: the student.
        targets: the branch, and the neurons or heads of it, as each of the pruners that masks them sees them.
        optimizers: those that may hold the parameters, between two steps.

    Returns:
        The bias that is left of the branch, if it has one: it is 0, as its mask had it, and must not learn.
    """
    (units,) = (each for each in neurons(model) + heads(model) if each.name == targets[0].units.name)
    left = [(part.module, part.name) for part in targets[0].units.output_slices if part.name == "bias"]
    cut_live(targets, torch.zeros(units.count, dtype=torch.bool, device="cpu"), optimizers, units)
    idle = [raw_parameter(*place) for place in left]
    for bias in idle:
        bias.detach().zero_()
    return idle


def same_units(pruners: dict[str, Pruner]) -> list[tuple[str, list[UnitTarget]]]:
    """The neurons, heads and branches that are masked and not cut yet, with their shape, as all pruners see them."""
    found: dict[tuple[str, str], list[UnitTarget]] = {}
    for pruner in pruners.values():
        for part in pruner.parts:
            if isinstance(part, UnitTarget) and part.left is None:
                found.setdefault((pruner.shape, part.units.name), []).append(part)
    return [(shape, targets) for (shape, _), targets in found.items()]


def within(pruners: dict[str, Pruner], branch: list[UnitTarget]) -> list[UnitTarget]:
    """A branch and, behind it, what else lies in it and has not gone: its neurons or heads."""
    parts = [part for pruner in pruners.values() for part in pruner.parts if isinstance(part, UnitTarget)]
    return branch + [part for part in parts if part.units.name == branch[0].units.name and part not in branch]


def cut_settled(
    model: PreTrainedModel,
    pruners: dict[str, Pruner],
    shapes: set[str],
    step: int,
    timeline: Timeline,
    optimizers: list[Optimizer],
) -> list[nn.Parameter]:
    """Cut out the units, of these shapes, of whose tensors all masks stand from this very step on.

    A pruner of elements that goes on ranks what lies beneath the masks of units, too: until it has ended they
    stay. Heads that share a position bias always do, and those by which a decoder counts, and what a grid learns a
    number for. Later steps cut nothing: a checkpoint that is the best so far would no longer fit.

    Returns:
        The biases of branches that are gone, which must not learn.
    """
    final_steps: dict[tuple, int] = {}
    for pruner in pruners.values():
        for place in (place for part in pruner.parts for place in part.places):
            final_steps[place] = max(final_steps.get(place, 0), pruner.final_mask_step(timeline))
    idle = []
    for shape, targets in sorted(same_units(pruners), key=lambda found: found[0] != "layers"):
        if targets[0].left is not None:  # gone with its branch
            continue
        ready = max(final_steps[place] for target in targets for place in target.places) == step
        if not ready or shape not in shapes or stays(model, targets[0].units) or _learned(targets[0]):
            continue
        keep = torch.stack([target.kept() for target in targets]).all(dim=0)
        if shape == "layers":
            if not keep.any() and _goes(model, targets[0]):
                idle += cut_branch(model, within(pruners, targets), optimizers)
        elif keep.any() and not keep.all():
            cut_live(targets, keep, optimizers)
    return idle


def _goes(model: PreTrainedModel, branch: UnitTarget) -> bool:
    """Whether all of a branch can be cut."""
    (units,) = (each for each in neurons(model) + heads(model) if each.name == branch.units.name)
    return units.name != COUNTED and not stays(model, units)


def _learned(target: UnitTarget) -> bool:
    """Whether another step than a mask has parameters for these units, as a grid that learns has for each row."""
    others = [step for place in target.places for step in get_weight_transforms(*place) if not isinstance(step, Mask)]
    return any(True for step in others for _ in step.parameters())


def follow(model: PreTrainedModel, pruners: dict[str, Pruner], idle: list[nn.Parameter]) -> RemovableHandle:
    """From now on, before the model loads a state in which units have been cut, it is cut to as many.

    Needed where a run is resumed: masks are on, no optimizer is made yet, and which of the units stay does not
    matter, since their numbers are about to be loaded. To ``idle`` the biases are added that must not learn.
    """

    def cut_to(model: PreTrainedModel, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        names = {module: name for name, module in model.named_modules()}
        for shape, targets in sorted(same_units(pruners), key=lambda found: found[0] != "layers"):
            units = targets[0].units
            part, path = units.slices[0], f"{prefix}{names[units.slices[0].module]}"
            plain, beneath = f"{path}.{part.name}", f"{path}.parametrizations.{part.name}.original"
            saved, now = state.get(beneath, state.get(plain)), raw_parameter(part.module, part.name)
            if targets[0].left is not None or saved is None or saved.shape[part.axis] >= now.shape[part.axis]:
                continue
            left = units.count * saved.shape[part.axis] // now.shape[part.axis]
            if shape != "layers":
                cut_live(targets, torch.arange(units.count, device="cpu") < left, [])
            elif saved.shape[part.axis] == 0:
                idle.extend(cut_branch(model, within(pruners, targets), []))

    return model.register_load_state_dict_pre_hook(cut_to)
