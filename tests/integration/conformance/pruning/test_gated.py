"""Units of every family are scored by the gradients of real gates."""

import pytest
import torch

from prune_schedules.scores.gradient import Taylor
from prune_schedules.targets.mask import Mask
from students.weights import find_weight_transforms, raw_parameter
from tests.helpers.families import batch
from tests.helpers.pruning.one_step import LATER, TIMELINE, one_step


def test_a_head_is_scored_by_the_gradient_of_a_gate_on_what_it_sends(name):
    """Michel, Levy and Neubig: dL/dxi for a factor xi on what each head hands to the output projection."""
    taylor = Taylor(sparsity=LATER, shape="heads")
    model = one_step(name, taylor, 4)
    part = taylor.targets[0]
    reads, gates = part.reader, torch.ones(part.units.count, requires_grad=True)
    width = part.units.slices[-1].size

    def gated(module, inputs):
        return (inputs[0] * gates.repeat_interleave(width),)

    hook = reads.register_forward_pre_hook(gated)
    (expected,) = torch.autograd.grad(model(**batch(name)).loss, gates)
    hook.remove()
    assert expected.abs().max() > 0
    torch.testing.assert_close(taylor.scores()[0], expected.abs(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("shape", ["neurons", "heads"])
def test_a_masked_unit_is_scored_as_if_it_were_not(name, shape):
    """The gradient of a gate that is 0 where a unit is masked, and what is computed stays."""
    taylor = Taylor(sparsity=LATER, shape=shape)
    model = one_step(name, taylor, 4)
    part, inputs = taylor.targets[0], batch(name)
    keep = torch.arange(part.units.count) % 2 == 0
    gates, width = keep.float().requires_grad_(), part.units.slices[-1].size
    hook = part.reader.register_forward_pre_hook(lambda module, x: (x[0] * gates.repeat_interleave(width),))
    bare = model(**inputs)
    (expected,) = torch.autograd.grad(bare.loss, gates)
    hook.remove()
    part.keep(keep)
    model.zero_grad()
    taylor.score_sums = None
    for mask in find_weight_transforms(model, Mask).values():
        mask.train()  # but without dropout
    taylor.before_forward(4, TIMELINE, {})
    masked = model(**inputs)
    masked.loss.backward()
    taylor.before_optimizer_step(4, TIMELINE)
    torch.testing.assert_close(masked.logits, bare.logits)
    assert expected[~keep].abs().max() > 0
    torch.testing.assert_close(taylor.scores()[0], expected.abs(), rtol=1e-3, atol=1e-7)
    for module, key in part.parameters:
        gone = getattr(module, key) == 0
        assert (raw_parameter(module, key).grad[gone] == 0).all()
