import copy

import pytest
import torch
from torch import nn

from prune_schedules.targets.mask import Mask, apply_mask
from students.weights import add_weight_transform, raw_parameter


def masked_layer() -> tuple[nn.Linear, Mask]:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    mask = Mask(layer.weight.shape)
    add_weight_transform(layer, mask)
    return layer, mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_entries_are_zero_and_the_dtype_stays(dtype):
    weight = torch.tensor([[1.0, -3.0], [4.0, -2.0]], dtype=dtype)
    mask = torch.tensor([[True, False], [False, True]])
    assert torch.equal(apply_mask(weight, mask), torch.tensor([[1.0, 0.0], [0.0, -2.0]], dtype=dtype))


def test_a_mask_is_off_until_it_removes_something():
    layer, mask = masked_layer()
    assert not mask.enabled and layer.weight is raw_parameter(layer)
    mask.keep(torch.tensor([[True, False, True], [True, True, True]]))
    assert mask.enabled and layer.weight[0, 1] == 0 and raw_parameter(layer)[0, 1] != 0
    mask.keep(torch.ones(2, 3, dtype=torch.bool))
    assert not mask.enabled and layer.weight is raw_parameter(layer)


def test_masked_entries_have_no_gradient():
    layer, mask = masked_layer()
    mask.keep(torch.tensor([[True, False, True], [False, False, True]]))
    layer(torch.ones(1, 3)).sum().backward()
    assert torch.equal(raw_parameter(layer).grad, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))


def test_a_row_mask_broadcasts():
    layer = nn.Linear(3, 2)
    mask = Mask((2, 1))
    add_weight_transform(layer, mask)
    mask.keep(torch.tensor([True, False]))
    assert (layer.weight[1] == 0).all() and torch.equal(layer.weight[0], raw_parameter(layer)[0])


def test_saved_and_loaded_the_mask_acts_at_once():
    layer, mask = masked_layer()
    mask.keep(torch.tensor([[True, False, True], [False, False, True]]))
    other, other_mask = masked_layer()
    other.load_state_dict(layer.state_dict())
    assert other_mask.enabled and torch.equal(other.weight, layer.weight)
    fresh, _ = masked_layer()
    other.load_state_dict(fresh.state_dict())
    assert not other_mask.enabled


def test_a_copy_is_a_model_of_its_own():
    layer, mask = masked_layer()
    other = copy.deepcopy(layer)
    mask.keep(torch.zeros(2, 3, dtype=torch.bool))
    assert (other.weight != 0).all()
    other.load_state_dict(layer.state_dict())
    assert (other.weight == 0).all()


def test_the_switch_goes_through_torch_compile():
    layer, mask = masked_layer()
    compiled, inputs = torch.compile(layer, backend="eager", fullgraph=True), torch.ones(1, 3)
    compiled(inputs)
    mask.keep(torch.tensor([[True, False, True], [False, False, True]]))
    torch.testing.assert_close(compiled(inputs), inputs @ layer.weight.T + layer.bias)
