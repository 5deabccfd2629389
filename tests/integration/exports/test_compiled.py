"""``torch.compile`` of a student with its steps on: one graph, and the numbers of the plain one."""

import pytest
import torch
from torch import nn

from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from quant_aware.quantize import Quantize
from quant_aware.quantizers.codebook import KMeans
from quant_aware.quantizers.quantizer import Quantizer
from quant_aware.quantizers.uniform import Uniform
from tests.helpers.families import batch, tiny

TIMELINE = Timeline(total_steps=10, epoch_steps=10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights", [Uniform(), Uniform(bits=4, learn=True), KMeans(bits=3)], ids=["int8", "learned", "means"]
)
def test_a_student_that_is_masked_and_rounded_is_one_graph(weights: Quantizer) -> None:
    model, inputs = tiny("bert", layers=1).train(), batch("bert")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    pruner, quantize = Magnitude(sparsity=Constant(0.5)), Quantize(weights=weights)
    pruner.attach(model)
    quantize.attach(model)
    pruner.update(0, TIMELINE)
    quantize.update(0, TIMELINE)
    quantize.calibrate(model, was_enabled=False)
    assert pruner.current_sparsity() == pytest.approx(0.5, abs=0.01)
    gradients = []
    for network in (model, torch.compile(model, fullgraph=True, backend="eager")):
        model.zero_grad()
        output = network(**inputs)
        output.loss.backward()
        gradients.append((output.logits, [parameter.grad for parameter in model.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)
