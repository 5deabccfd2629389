"""Learned gates of every family multiply what a unit sends."""

import pytest
import torch

from prune_schedules.schedule import Cubic, Timeline, TimePoint
from prune_schedules.scores.l0 import L0
from prune_schedules.targets.mask import Mask
from students.weights import find_weight_transforms
from tests.helpers.families import batch, tiny

TIMELINE = Timeline(total_steps=20, epoch_steps=10)
LATER = Cubic(to=0.5, start=TimePoint("25%"), stop=TimePoint("75%"))


def at_step(model, pruner, step):
    pruner.before_forward(step, TIMELINE, {})
    out = model(**batch(model.config.model_type))
    out.loss.backward()
    return out


@pytest.mark.parametrize("shape", ["neurons", "heads", "layers"])
def test_a_gate_multiplies_what_a_unit_sends_and_has_its_gradient(name, shape):
    """Against gates put on the inputs (of layers: the outputs) of the modules that read the units."""
    model = tiny(name).eval()
    pruner = L0(sparsity=LATER, shape=shape)
    pruner.attach(model)
    for mask in find_weight_transforms(model, Mask).values():
        mask.train()
    heeded = []
    pruner.update_scores = lambda gradients, step, timeline: heeded.extend(gradients)
    gated = at_step(model, pruner, 8)
    gates = [gate.detach().requires_grad_() for gate in pruner._gates]
    pruner.before_optimizer_step(8, TIMELINE)
    model.eval()
    hooks = []
    for part, gate in zip(pruner.targets, gates, strict=True):
        width = part.units.slices[-1].size
        if shape == "layers":
            hook = part.reader.register_forward_hook(lambda module, x, out, gate=gate: out * gate)
        else:
            hook = part.reader.register_forward_pre_hook(
                lambda module, x, gate=gate, width=width: (x[0] * gate.repeat_interleave(width),)
            )
        hooks.append(hook)
    expected = model(**batch(name))
    torch.testing.assert_close(gated.logits, expected.logits)
    for gradient, exact in zip(heeded, torch.autograd.grad(expected.loss, gates), strict=True):
        torch.testing.assert_close(gradient, exact, rtol=1e-3, atol=1e-6)
