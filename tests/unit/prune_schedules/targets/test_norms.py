"""Norms that leave dimensions out, against the same norm of the others alone in double precision."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from prune_schedules.targets.norms import attach, detach, kept_dimensions

WIDTH, KEEP = 12, torch.arange(12) % 3 != 1
KINDS = {
    "LayerNorm": lambda: nn.LayerNorm(WIDTH, eps=1e-3),
    "LayerNorm without bias": lambda: nn.LayerNorm(WIDTH, eps=1e-3, bias=False),
    "T5": lambda: T5LayerNorm(WIDTH, eps=1e-3),
    "Llama": lambda: LlamaRMSNorm(WIDTH, eps=1e-3),
}


def made(kind: str) -> nn.Module:
    """A norm whose parameters are zero where nothing is kept, as under masks."""
    torch.manual_seed(0)
    norm = KINDS[kind]()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_().mul_(KEEP)
    return norm


def states() -> Tensor:
    return 3 * torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1)) + 1


def reference(norm: nn.Module, x: Tensor) -> Tensor:
    """Written out, over what is kept alone; [..., kept]."""
    x, weight = x[..., KEEP], norm.weight.detach().double()[KEEP]
    if not isinstance(norm, nn.LayerNorm):
        return x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    return normed if norm.bias is None else normed + norm.bias.detach().double()[KEEP]


@pytest.mark.parametrize("masked", [0.0, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_norm_of_what_is_kept_forward_and_backward(kind, masked):
    """Whatever stands at the masked places has no part in it."""
    norm, x = made(kind), states().masked_fill(~KEEP, masked).requires_grad_()
    exact = x.detach().double().requires_grad_()
    attach(norm).keep(KEEP)
    actual, expected = norm(x), reference(norm, exact)
    assert (actual[..., ~KEEP] == 0).all()
    torch.testing.assert_close(actual[..., KEEP].double(), expected, rtol=1e-5, atol=1e-6)
    direction = torch.randn(actual.shape, generator=torch.Generator().manual_seed(2))
    actual.backward(direction)
    expected.backward(direction[..., KEEP].double())
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)
    assert (x.grad[..., ~KEEP] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_of_its_parameters_are_those_of_a_narrow_norm(kind):
    norm, narrow = made(kind), made(kind)
    for name, parameter in list(narrow.named_parameters()):
        setattr(narrow, name, nn.Parameter(parameter.detach()[KEEP]))
    if isinstance(narrow, nn.LayerNorm):
        narrow.normalized_shape = (int(KEEP.sum()),)
    attach(norm).keep(KEEP)
    x = states().masked_fill(~KEEP, 0)
    norm(x).sin().sum().backward()
    narrow(x[..., KEEP]).sin().sum().backward()
    for name, parameter in narrow.named_parameters():
        torch.testing.assert_close(getattr(norm, name).grad[KEEP], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_type_and_values_are_those_of_a_plain_norm(kind, training):
    norm, plain, x = made(kind).train(training), made(kind), states().masked_fill(~KEEP, 0)
    attach(norm).keep(KEEP)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16):
            actual, like = norm(x.to(dtype)), plain(x.to(dtype))
        assert actual.dtype == like.dtype
        exact = reference(norm, x.to(dtype).double())
        near = 1e-5 if dtype == torch.float32 else 5e-2
        torch.testing.assert_close(actual[..., KEEP].double(), exact, rtol=near, atol=near)


@pytest.mark.parametrize("kind", KINDS)
def test_while_nothing_is_masked_it_is_the_plain_norm(kind):
    norm, plain = made(kind), made(kind)
    counted = attach(norm)
    assert attach(norm) is counted and torch.equal(norm(states()), plain(states()))
    counted.keep(KEEP)
    assert not torch.equal(norm(states()), plain(states()))
    counted.keep(torch.ones_like(KEEP))
    assert torch.equal(norm(states()), plain(states()))


def test_what_it_counts_is_saved_loaded_and_copied_with_it():
    norm, other = made("LayerNorm"), made("LayerNorm")
    attach(norm).keep(KEEP)
    attach(other)
    other.load_state_dict(norm.state_dict())
    twin = copy.deepcopy(norm)
    for module in (other, twin):
        assert torch.equal(kept_dimensions(module), KEEP) and torch.equal(module(states()), norm(states()))
    detach(twin)
    assert kept_dimensions(twin) is None and torch.equal(twin(states()), made("LayerNorm")(states()))
    assert list(twin.state_dict()) == ["weight", "bias"] and not twin._forward_hooks and not twin._forward_pre_hooks
    assert torch.equal(kept_dimensions(norm), KEEP) and torch.equal(other(states()), norm(states()))
