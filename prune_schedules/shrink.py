"""Neurons and heads whose masks stand for good are cut out of the student while it trains: its steps get faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from prune_schedules.cut import stays
from prune_schedules.mask import Mask
from prune_schedules.prunable import Whole
from prune_schedules.schedule import Timeline
from students.units import Shrunk, shrink
from students.weights import latent, steps_on

if TYPE_CHECKING:
    from prune_schedules.pruner import Pruner


def cut_live(wholes: list[Whole], keep: Tensor, optimizers: list[Optimizer]) -> None:
    """Cut out, in place, the units that ``keep`` (bool [count]) leaves out, and their part of the optimizers' state.

    The model computes what it computed with the masks, given f(0) = 0, and goes on training as it would have
    done, up to rounding. The masks of the units come off; other steps on the tensors stay, and are cut as well.

    Args:
        wholes: the same units as each of the pruners that masks them sees them.
        keep: which stay.
        optimizers: those that may hold the parameters, between two steps.
    """
    modules, units = dict.fromkeys(module for module, _ in wholes[0].places), wholes[0].units
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


def same_units(pruners: dict[str, Pruner]) -> list[tuple[str, list[Whole]]]:
    """The neurons and heads that are masked and not cut yet, with their shape, as all pruners see them."""
    found: dict[tuple[str, str], list[Whole]] = {}
    for pruner in pruners.values():
        for part in pruner.parts:
            if isinstance(part, Whole) and part.left is None and pruner.shape != "layers":
                found.setdefault((pruner.shape, part.units.name), []).append(part)
    return [(shape, wholes) for (shape, _), wholes in found.items()]


def cut_settled(
    model: PreTrainedModel,
    pruners: dict[str, Pruner],
    shapes: set[str],
    step: int,
    timeline: Timeline,
    optimizers: list[Optimizer],
) -> None:
    """Cut out the units, of these shapes, of whose tensors all masks stand from this very step on.

    A pruner of elements that goes on ranks what lies beneath the masks of units, too: until it has ended they
    stay. Heads that share a position bias always do, and what a grid learns a number for. Later steps cut nothing: a
    checkpoint that is the best so far would no longer fit.
    """
    stands: dict[tuple, int] = {}
    for pruner in pruners.values():
        for place in (place for part in pruner.parts for place in part.places):
            stands[place] = max(stands.get(place, 0), pruner.stands(timeline))
    for shape, wholes in same_units(pruners):
        ready = max(stands[place] for whole in wholes for place in whole.places) == step
        if not ready or shape not in shapes or stays(model, wholes[0].units) or _learned(wholes[0]):
            continue
        keep = torch.stack([whole.kept() for whole in wholes]).all(dim=0)
        if keep.any() and not keep.all():
            cut_live(wholes, keep, optimizers)


def _learned(whole: Whole) -> bool:
    """Whether another step than a mask has parameters for these units, as a grid that learns has for each row."""
    others = [step for place in whole.places for step in steps_on(*place) if not isinstance(step, Mask)]
    return any(True for step in others for _ in step.parameters())


def follow(model: PreTrainedModel, pruners: dict[str, Pruner]) -> RemovableHandle:
    """From now on, before the model loads a state in which units have been cut, it is cut to as many.

    Needed where a run is resumed: masks are on, no optimizer is made yet, and which of the units stay does not
    matter, since their numbers are about to be loaded.
    """

    def cut_to(model: PreTrainedModel, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        names = {module: name for name, module in model.named_modules()}
        for _, wholes in same_units(pruners):
            units = wholes[0].units
            part, path = units.slices[0], f"{prefix}{names[units.slices[0].module]}"
            plain, beneath = f"{path}.{part.name}", f"{path}.parametrizations.{part.name}.original"
            saved, now = state.get(beneath, state.get(plain)), latent(part.module, part.name)
            if saved is not None and saved.shape[part.axis] < now.shape[part.axis]:
                left = units.count * saved.shape[part.axis] // now.shape[part.axis]
                cut_live(wholes, torch.arange(units.count, device="cpu") < left, [])

    return model.register_load_state_dict_pre_hook(cut_to)
