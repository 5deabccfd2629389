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
from prune_schedules.targets.prunable import Whole
from students.structure.units import Shrunk, Units, heads, neurons, shrink
from students.weights import latent, steps_on

if TYPE_CHECKING:
    from transformers import PreTrainedModel

if TYPE_CHECKING:
    from prune_schedules.scores.pruner import Pruner


def cut_live(wholes: list[Whole], keep: Tensor, optimizers: list[Optimizer], units: Units | None = None) -> None:
    """Cut out, in place, the units that ``keep`` (bool [count]) leaves out, and their part of the optimizers' state.

    The model computes what it computed with the masks, given f(0) = 0, and goes on training as it would have
    done, up to rounding. The masks of the units come off; other steps on the tensors stay, and are cut as well.

    Args:
        wholes: the same units as each of the pruners that masks them sees them.
        keep: which stay.
        optimizers: those that may hold the parameters, between two steps.
        units: those that are cut, where ``wholes`` are not of them alone.
    """
    modules = dict.fromkeys(module for whole in wholes for module, _ in whole.places)
    units = units or wholes[0].units
    for whole in wholes:
        whole.release(int(keep.sum()))
    changes = shrink(units, keep)
    for optimizer in optimizers:
        for change in changes:
            exchange(optimizer, change)
        for module in modules:
            arrange(optimizer, module)


def exchange(optimizer: Optimizer, change: Shrunk) -> None:
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


def cut_branch(model: PreTrainedModel, wholes: list[Whole], optimizers: list[Optimizer]) -> list[nn.Parameter]:
    """Cut out all neurons or heads of a branch, in place, as ``cut_live``.

    Args:
        model: the student.
        wholes: the branch, and the neurons or heads of it, as each of the pruners that masks them sees them.
        optimizers: those that may hold the parameters, between two steps.

    Returns:
        The bias that is left of the branch, if it has one: it is 0, as its mask had it, and must not learn.
    """
    (units,) = (each for each in neurons(model) + heads(model) if each.name == wholes[0].units.name)
    left = [(part.module, part.name) for part in wholes[0].units.sending if part.name == "bias"]
    cut_live(wholes, torch.zeros(units.count, dtype=torch.bool, device="cpu"), optimizers, units)
    idle = [latent(*place) for place in left]
    for bias in idle:
        bias.detach().zero_()
    return idle


def same_units(pruners: dict[str, Pruner]) -> list[tuple[str, list[Whole]]]:
    """The neurons, heads and branches that are masked and not cut yet, with their shape, as all pruners see them."""
    found: dict[tuple[str, str], list[Whole]] = {}
    for pruner in pruners.values():
        for part in pruner.parts:
            if isinstance(part, Whole) and part.left is None:
                found.setdefault((pruner.shape, part.units.name), []).append(part)
    return [(shape, wholes) for (shape, _), wholes in found.items()]


def within(pruners: dict[str, Pruner], branch: list[Whole]) -> list[Whole]:
    """A branch and, behind it, what else lies in it and has not gone: its neurons or heads."""
    parts = [part for pruner in pruners.values() for part in pruner.parts if isinstance(part, Whole)]
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
    stands: dict[tuple, int] = {}
    for pruner in pruners.values():
        for place in (place for part in pruner.parts for place in part.places):
            stands[place] = max(stands.get(place, 0), pruner.stands(timeline))
    idle = []
    for shape, wholes in sorted(same_units(pruners), key=lambda found: found[0] != "layers"):
        if wholes[0].left is not None:  # gone with its branch
            continue
        ready = max(stands[place] for whole in wholes for place in whole.places) == step
        if not ready or shape not in shapes or stays(model, wholes[0].units) or _learned(wholes[0]):
            continue
        keep = torch.stack([whole.kept() for whole in wholes]).all(dim=0)
        if shape == "layers":
            if not keep.any() and _goes(model, wholes[0]):
                idle += cut_branch(model, within(pruners, wholes), optimizers)
        elif keep.any() and not keep.all():
            cut_live(wholes, keep, optimizers)
    return idle


def _goes(model: PreTrainedModel, branch: Whole) -> bool:
    """Whether all of a branch can be cut."""
    (units,) = (each for each in neurons(model) + heads(model) if each.name == branch.units.name)
    return units.name != COUNTED and not stays(model, units)


def _learned(whole: Whole) -> bool:
    """Whether another step than a mask has parameters for these units, as a grid that learns has for each row."""
    others = [step for place in whole.places for step in steps_on(*place) if not isinstance(step, Mask)]
    return any(True for step in others for _ in step.parameters())


def follow(model: PreTrainedModel, pruners: dict[str, Pruner], idle: list[nn.Parameter]) -> RemovableHandle:
    """From now on, before the model loads a state in which units have been cut, it is cut to as many.

    Needed where a run is resumed: masks are on, no optimizer is made yet, and which of the units stay does not
    matter, since their numbers are about to be loaded. To ``idle`` the biases are added that must not learn.
    """

    def cut_to(model: PreTrainedModel, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        names = {module: name for name, module in model.named_modules()}
        for shape, wholes in sorted(same_units(pruners), key=lambda found: found[0] != "layers"):
            units = wholes[0].units
            part, path = units.slices[0], f"{prefix}{names[units.slices[0].module]}"
            plain, beneath = f"{path}.{part.name}", f"{path}.parametrizations.{part.name}.original"
            saved, now = state.get(beneath, state.get(plain)), latent(part.module, part.name)
            if wholes[0].left is not None or saved is None or saved.shape[part.axis] >= now.shape[part.axis]:
                continue
            left = units.count * saved.shape[part.axis] // now.shape[part.axis]
            if shape != "layers":
                cut_live(wholes, torch.arange(units.count, device="cpu") < left, [])
            elif saved.shape[part.axis] == 0:
                idle.extend(cut_branch(model, within(pruners, wholes), []))

    return model.register_load_state_dict_pre_hook(cut_to)
