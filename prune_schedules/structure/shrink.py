"""Cutting during training: units whose masks are final leave the student, and the following steps are faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prune_schedules.schedule import Timeline
from prune_schedules.structure.cut import needs_one
from prune_schedules.targets.mask import Mask
from prune_schedules.targets.units import UnitTarget
from students.structure.units import ShrunkParameter, Units, heads, neurons, shrink
from students.weights import get_weight_transforms, raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prune_schedules.scores.pruner import Pruner


def cut_units(targets: list[UnitTarget], kept: Tensor, optimizers: list[Optimizer], units: Units | None = None) -> None:
    """Cut out units and their part of the optimizers' state, in place.

    The model computes what it computed with the masks, given f(0) = 0, and goes on training as it would have done, up
    to rounding. The masks of the units are removed; other parametrizations of the tensors stay, and are cut as well.

    Args:
        targets: the targets of the same units, one for each pruner that masks them.
        kept: which units stay, bool [count].
        optimizers: those that may hold the parameters, between two steps.
        units: the units to cut, if the targets contain others too.
    """
    modules = dict.fromkeys(module for target in targets for module, _ in target.parameters)
    units = units or targets[0].units
    for target in targets:
        target.detach(int(kept.sum()))
    changes = shrink(units, kept)
    for optimizer in optimizers:
        for change in changes:
            replace_parameter(optimizer, change)
        for module in modules:
            restore_order(optimizer, module)


def replace_parameter(optimizer: Optimizer, change: ShrunkParameter) -> None:
    """Replace a parameter in an optimizer, and keep the state of the entries that are left."""
    for group in optimizer.param_groups:
        group["params"][:] = [change.new if p is change.old else p for p in group["params"]]
    if change.old in optimizer.state:
        optimizer.state[change.new] = {
            key: value.index_select(change.axis, change.index)
            if isinstance(value, Tensor) and value.shape == change.old.shape
            else value
            for key, value in optimizer.state.pop(change.old).items()
        }


def restore_order(optimizer: Optimizer, module: nn.Module) -> None:
    """Sort the parameters of a module in an optimizer by their order in the module.

    The order changes where a parametrization was removed. An optimizer's state is saved by order, and a resumed run
    makes its optimizer anew.
    """
    order = {id(p): number for number, p in enumerate(module.parameters())}
    for group in optimizer.param_groups:
        indices = [i for i, p in enumerate(group["params"]) if id(p) in order]
        parameters = sorted((group["params"][i] for i in indices), key=lambda p: order[id(p)])
        for i, p in zip(indices, parameters, strict=True):
            group["params"][i] = p


def cut_branch(model: PreTrainedModel, targets: list[UnitTarget], optimizers: list[Optimizer]) -> list[nn.Parameter]:
    """Cut out all neurons or heads of a branch, in place, as ``cut_units``.

    Args:
        model: the student.
        targets: the targets of the branch, and of its neurons or heads, one for each pruner that masks them.
        optimizers: those that may hold the parameters, between two steps.

    Returns:
        The bias that is left of the branch, if it has one: it is 0, as under its mask, and must not be trained.
    """
    units = _units_of(model, targets[0])
    biases = [(part.module, part.name) for part in targets[0].units.output_slices if part.name == "bias"]
    cut_units(targets, torch.zeros(units.count, dtype=torch.bool, device="cpu"), optimizers, units)
    frozen = [raw_parameter(*bias) for bias in biases]
    for bias in frozen:
        bias.detach().zero_()
    return frozen


def uncut_targets(pruners: dict[str, Pruner]) -> list[tuple[str, list[UnitTarget]]]:
    """Return the unit targets that are not cut yet, those of the same units together, with their shape."""
    by_units: dict[tuple[str, str], list[UnitTarget]] = {}
    for pruner in pruners.values():
        for target in pruner.targets:
            if isinstance(target, UnitTarget) and target.remaining is None:
                by_units.setdefault((pruner.shape, target.units.name), []).append(target)
    return [(shape, targets) for (shape, _), targets in by_units.items()]


def with_units(pruners: dict[str, Pruner], branch: list[UnitTarget]) -> list[UnitTarget]:
    """Return the targets of a branch, followed by those of the neurons or heads in it."""
    targets = [t for pruner in pruners.values() for t in pruner.targets if isinstance(t, UnitTarget)]
    return branch + [t for t in targets if t.units.name == branch[0].units.name and t not in branch]


def cut_final(
    model: PreTrainedModel,
    pruners: dict[str, Pruner],
    shapes: set[str],
    step: int,
    timeline: Timeline,
    optimizers: list[Optimizer],
) -> list[nn.Parameter]:
    """Cut out the masked units of these shapes if all masks on their tensors become final at this very step.

    A pruner of elements that is still active ranks the weights beneath the masks of units, too: until it has ended they
    stay. Heads that share a position bias always stay, as do heads by which a decoder counts tokens, and units with
    learned qparams. Later steps cut nothing: the best checkpoint so far would no longer fit.

    Returns:
        The biases of removed branches, which must not be trained.
    """
    final_steps: dict[tuple, int] = {}
    for pruner in pruners.values():
        for parameter in (parameter for target in pruner.targets for parameter in target.parameters):
            final_steps[parameter] = max(final_steps.get(parameter, 0), pruner.final_mask_step(timeline))
    frozen = []
    for shape, targets in _layers_first(uncut_targets(pruners)):
        if targets[0].remaining is not None:  # removed with its branch
            continue
        is_final = max(final_steps[parameter] for target in targets for parameter in target.parameters) == step
        if not is_final or shape not in shapes or targets[0].units.is_fixed or _has_qparams(targets[0]):
            continue
        kept = torch.stack([target.kept_units() for target in targets]).all(dim=0)
        if shape == "layers":
            if not kept.any() and _can_cut_branch(model, targets[0]):
                frozen += cut_branch(model, with_units(pruners, targets), optimizers)
        elif kept.any() and not kept.all():
            cut_units(targets, kept, optimizers)
    return frozen


def _layers_first(targets: list[tuple[str, list[UnitTarget]]]) -> list[tuple[str, list[UnitTarget]]]:
    return sorted(targets, key=lambda item: item[0] != "layers")


def _units_of(model: PreTrainedModel, branch: UnitTarget) -> Units:
    """Return the neurons or heads of a branch."""
    (units,) = (units for units in neurons(model) + heads(model) if units.name == branch.units.name)
    return units


def _can_cut_branch(model: PreTrainedModel, branch: UnitTarget) -> bool:
    units = _units_of(model, branch)
    return not (needs_one(units) or units.is_fixed)


def _has_qparams(target: UnitTarget) -> bool:
    """Return whether a parametrization has parameters for these units, as learned qparams of each row."""
    steps = [
        step
        for parameter in target.parameters
        for step in get_weight_transforms(*parameter)
        if not isinstance(step, Mask)
    ]
    return any(True for step in steps for _ in step.parameters())


def cut_before_loading(
    model: PreTrainedModel, pruners: dict[str, Pruner], frozen: list[nn.Parameter]
) -> RemovableHandle:
    """Register a hook that cuts the model to the sizes of a state dict before it is loaded.

    It is needed when a run is resumed: masks are attached, no optimizer is made yet, and it does not matter which of
    the units stay, since their weights are about to be loaded.

    Args:
        model: the student.
        pruners: by name.
        frozen: to which the biases of removed branches are added.
    """

    def hook(model: PreTrainedModel, state: dict[str, Tensor], prefix: str, *args: object) -> None:
        names = {module: name for name, module in model.named_modules()}
        for shape, targets in _layers_first(uncut_targets(pruners)):
            units = targets[0].units
            part, path = units.slices[0], f"{prefix}{names[units.slices[0].module]}"
            plain, original = f"{path}.{part.name}", f"{path}.parametrizations.{part.name}.original"
            saved, current = state.get(original, state.get(plain)), raw_parameter(part.module, part.name)
            is_cut = targets[0].remaining is not None
            if is_cut or saved is None or saved.shape[part.axis] >= current.shape[part.axis]:
                continue
            remaining = units.count * saved.shape[part.axis] // current.shape[part.axis]
            if shape != "layers":
                cut_units(targets, torch.arange(units.count, device="cpu") < remaining, [])
            elif saved.shape[part.axis] == 0:
                frozen.extend(cut_branch(model, with_units(pruners, targets), []))

    return model.register_load_state_dict_pre_hook(hook)
