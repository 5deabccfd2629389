"""GPTQ against the same written out with an inverse that is updated, and what it is for."""

import pytest
import torch
from torch import Tensor

from quant_aware.calibration.gptq import gptq
from quant_aware.quantizers.codebook import KMeans
from quant_aware.quantizers.quantizer import Quantizer
from quant_aware.quantizers.uniform import Uniform
from students.recording.input_grams import collect_input_grams
from tests.helpers.families import batch, tiny

QUANTIZERS = [
    Uniform(bits=4, learn=True),
    Uniform(bits=3, learn=True, granularity=16),
    Uniform(bits=3, learn=True, granularity="tensor"),
    KMeans(bits=3),
    KMeans(bits=2, granularity="row"),
]


def given(inputs: int = 48, outputs: int = 20) -> tuple[Tensor, Tensor]:
    """A weight, and inputs that hang together."""
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(inputs, inputs, generator=draw)
    return torch.randn(outputs, inputs, generator=draw), torch.randn(500, inputs, generator=draw) @ mixing


def fitted(quantizer: Quantizer, weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = quantizer.to_groups(weight)
    return quantizer.qparams(groups), quantizer.from_groups(
        quantizer.fake_quantize_learned(groups, quantizer.qparams(groups)), weight
    )


def step_by_step(weight: Tensor, x: Tensor, step: Tensor, top: int) -> Tensor:
    """OBQ in fixed order: after each column the inverse of what is left (Frantar et al. 2022, equations 2 and 3)."""
    gram = (x.T @ x).double()
    inverse = torch.linalg.inv(gram + 0.01 * gram.diagonal().mean() * torch.eye(len(gram)).double())
    weight = weight.double().clone()
    for j in range(weight.shape[1]):
        rounded = (weight[:, j] / step).round().clamp(-top, top) * step
        error = (weight[:, j] - rounded) / inverse[j, j]
        weight -= error[:, None] * inverse[j]
        weight[:, j] = rounded
        inverse = inverse - torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        inverse[j], inverse[:, j] = 0, 0
    return weight


def test_it_is_what_an_updated_inverse_gives():
    weight, x = given()
    quantizer = Uniform(bits=4, learn=True)
    qparams, _ = fitted(quantizer, weight)
    expected = step_by_step(weight, x, qparams.double().flatten(), 7)
    torch.testing.assert_close(gptq(weight, x.T @ x, quantizer, qparams).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_outputs_change_less_than_by_the_nearest_value(quantizer):
    weight, x = given()
    qparams, nearest = fitted(quantizer, weight)
    rounded = gptq(weight, x.T @ x, quantizer, qparams)
    before, after = (float(((candidate - weight) @ x.T).square().mean()) for candidate in (nearest, rounded))
    assert after < 0.8 * before
    groups = quantizer.to_groups(rounded)
    torch.testing.assert_close(quantizer.fake_quantize_learned(groups, qparams), groups)
    # Inputs that have nothing to do with each other make nothing good.
    torch.testing.assert_close(gptq(weight, torch.eye(weight.shape[1]), quantizer, qparams), nearest)


def test_zeros_stay():
    weight, x = given()
    weight *= weight.abs() > 0.5
    quantizer = Uniform(bits=4, learn=True)
    assert (gptq(weight, x.T @ x, quantizer, quantizer.qparams(weight))[weight == 0] == 0).all()


def test_padding_is_not_heard():
    model, rows, seen = tiny("bert"), batch("bert"), []
    rows.pop("labels", None)
    layer = model.bert.encoder.layer[0].attention.self.query
    layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    gram = collect_input_grams(model, [layer], [rows])[layer]
    read = seen[0][rows["attention_mask"].bool()]
    assert len(read) < seen[0].flatten(0, 1).shape[0]
    torch.testing.assert_close(gram, read.T @ read)
