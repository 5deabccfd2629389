"""What every prune target promises to scores, masks and gates: the contract of ``PruneTarget``."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from prune_schedules.targets.elements import ElementTarget
from prune_schedules.targets.experts import ExpertTarget
from prune_schedules.targets.hidden import HiddenTarget
from prune_schedules.targets.mask import Mask
from prune_schedules.targets.target import PruneTarget
from prune_schedules.targets.units import UnitTarget
from students.structure.experts import experts
from students.structure.hidden import hidden_units
from students.structure.units import branches, heads, neurons
from students.weights import find_weight_transforms, full_parameter, raw_parameter
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.mixtures import mixture

MADE: dict[str, Callable[[PreTrainedModel], PruneTarget]] = {
    "weights": lambda model: ElementTarget(model.bert.encoder.layer[0].intermediate.dense),
    "tiles": lambda model: ElementTarget(model.bert.encoder.layer[0].output.dense, (4, 8)),
    "neurons": lambda model: UnitTarget(neurons(model)[0]),
    "heads": lambda model: UnitTarget(heads(model)[1]),
    "branches": lambda model: UnitTarget(branches(model)[0], min_kept=0),
    "hidden dimensions": lambda model: HiddenTarget(*hidden_units(model)),
    "experts": lambda model: ExpertTarget(experts(model)[0]),
}


def subclasses(base: type) -> set[type]:
    return set(base.__subclasses__()).union(*(subclasses(child) for child in base.__subclasses__()))


@pytest.fixture(params=MADE)
def made(request) -> tuple[PreTrainedModel, PruneTarget]:
    model = model_for(request.param)
    return model, MADE[request.param](model)


def model_for(kind: str) -> PreTrainedModel:
    return mixture("mixtral", "classification") if kind == "experts" else tiny("bert", layers=2).eval()


def some(target: PruneTarget) -> Tensor:
    """Every third item is left out; of a single one, that one."""
    count = torch.Size(target.shape).numel()
    return (torch.arange(count) % 3 > 0).view(target.shape)


def trains(model: PreTrainedModel) -> None:
    """Puts masks in train mode, and leaves dropout out."""
    for mask in find_weight_transforms(model, Mask).values():
        mask.train()


def logits(model: PreTrainedModel) -> Tensor:
    return model(**inputs(model)).logits


def inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    return batch("bert" if model.config.model_type == "bert" else "llama")


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    model.zero_grad()
    model(**inputs(model)).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_every_kind_of_target_is_held_to_the_contract():
    made = {type(make(model_for(kind))) for kind, make in MADE.items()}
    assert made == subclasses(PruneTarget)


def test_numbers_scores_and_masks_go_by_the_shape(made):
    _, target = made
    for tensor in [*target.entries(full_parameter), *target.outgoing_entries(full_parameter)]:
        assert tensor.shape[:-1] == target.shape
    assert target.count_masked() == (0, target.initial_count)
    assert set(target.outgoing_masks) <= set(target.parameters) and len(
        {id(raw_parameter(*place)) for place in target.parameters}
    ) == len(target.parameters)
    assert target.min_kept in (0, 1) and isinstance(target.reader, torch.nn.Module)


def test_what_is_not_kept_is_absent_and_comes_back(made):
    model, target = made
    before, beneath = logits(model), [tensor.clone() for tensor in target.entries(full_parameter)]
    target.keep(some(target))
    gone, total = target.count_masked()
    assert 0 < gone <= total and not torch.equal(logits(model), before)
    for tensor, first in zip(target.entries(full_parameter), beneath, strict=True):
        assert torch.equal(tensor, first), "the numbers stay beneath the mask"
    masked = logits(model)
    with torch.no_grad():  # whatever lies beneath a mask is not seen
        for (module, name), mask in target.outgoing_masks.items():
            parameter = raw_parameter(module, name)
            parameter.copy_(torch.where(mask.mask.expand(parameter.shape), parameter, 7.0))
    assert torch.equal(logits(model), masked)
    target.keep_all()
    assert target.count_masked() == (0, target.initial_count)


def test_gates_hold_in_training_until_they_are_taken_off(made):
    model, target = made
    keep, plain = some(target), logits(model)
    target.keep(keep)
    masked = logits(model)
    target.keep_all()
    trains(model)
    target.set_gates(keep.float())
    torch.testing.assert_close(logits(model), masked)
    model.eval()
    assert torch.equal(logits(model), plain), "evaluation sees the mask alone"
    trains(model)
    target.set_gates(None)
    assert torch.equal(logits(model), plain)


def test_a_suspended_mask_is_back_after_the_step(made):
    model, target = made
    plain = logits(model)
    target.keep(some(target))
    masked = logits(model)
    trains(model)
    target.suspend_mask()
    assert not torch.equal(logits(model), masked)
    model.eval()
    assert torch.equal(logits(model), masked), "evaluation between two batches sees the mask"
    trains(model)
    target.accumulate_gradients(False)
    assert torch.equal(logits(model), masked)
    target.keep_all()
    assert torch.equal(logits(model), plain)


def test_gradients_of_what_is_masked_come_through_while_they_are_asked_for(made):
    model, target = made
    target.keep(some(target))
    trains(model)
    masked, plain = logits(model), gradients(model)
    target.accumulate_gradients(True)
    torch.testing.assert_close(logits(model), masked)
    through = gradients(model)
    target.accumulate_gradients(False)
    again = gradients(model)
    for name, gradient in plain.items():
        assert torch.equal(again[name], gradient)
    not_computed = isinstance(target, HiddenTarget | ExpertTarget)  # in such a step either
    assert not_computed or any(not torch.equal(through[name], gradient) for name, gradient in plain.items())
