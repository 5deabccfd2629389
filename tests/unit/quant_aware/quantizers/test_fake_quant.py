"""Fake quantization against the ONNX specification and against ONNX Runtime itself."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn
from transformers.pytorch_utils import Conv1D

from quant_aware.quantizers.activations import ActivationQuantizer, InputCache, fake_quantize_activation
from quant_aware.quantizers.fake_quant import FakeQuant, fake_quantize_weight, quantize_weight, weight_axis
from quant_aware.quantizers.uniform import Uniform


@pytest.fixture(scope="module")
def dynamic_quantize():
    """ONNX Runtime's DynamicQuantizeLinear: float32 array -> (codes, scale, zero point)."""
    types = {"y": TensorProto.UINT8, "scale": TensorProto.FLOAT, "zero": TensorProto.UINT8}
    node = helper.make_node("DynamicQuantizeLinear", ["x"], list(types))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()]
    graph = helper.make_graph([node], "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})


def specification(x: np.ndarray) -> tuple[np.ndarray, np.float32, np.float32]:
    """The text of the ONNX operator, in float32 as it says; np.rint rounds halves to even."""
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = (high - low) / np.float32(255) if high > low else np.float32(1)
    zero = np.rint(np.clip(-low / scale, 0, 255))
    return np.clip(np.rint(x / scale) + zero, 0, 255), scale, zero


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ACTIVATIONS = {
    "normal": random(4, 33, 32),
    "shifted": random(7, 5) * 3 + 1,
    "positive": random(64).abs() + 2,
    "negative": -random(64).abs() - 2,
    "zero": torch.zeros(3, 5),
    "constant": torch.full((9,), 0.3),
    "negative constant": torch.full((9,), -0.3),
    "outlier": torch.cat([random(500), torch.tensor([1e4])]),
    "halves": torch.arange(-127.5, 128.0, 0.5),
    "both ends round up": torch.tensor([-1.5, 253.5, 0.5, 1.5, 2.5]),
}


@pytest.mark.parametrize("x", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_activation_equals_onnxruntime_bit_for_bit(x, dynamic_quantize):
    codes, scale, zero = dynamic_quantize(x.numpy())
    expected = (codes.astype(np.float32) - np.float32(zero)) * scale
    assert np.array_equal(fake_quantize_activation(x).numpy(), expected)


def test_activation_equals_onnxruntime_on_many_ranges(dynamic_quantize):
    for seed in range(200):
        x = random(257, seed=seed) * 10 ** (seed % 9 - 4) + seed % 5 - 2
        codes, scale, zero = dynamic_quantize(x.numpy())
        expected = (codes.astype(np.float32) - np.float32(zero)) * scale
        assert np.array_equal(fake_quantize_activation(x).numpy(), expected), seed


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=1, max_size=20))
def test_activation_follows_the_specification(values):
    x = np.array(values, dtype=np.float32)
    if 0 < np.ptp(np.append(x, 0)) < 1e-30:  # the scale would be subnormal: the specification divides by zero
        return
    codes, scale, zero = specification(x)
    assert np.array_equal(fake_quantize_activation(torch.from_numpy(x)).numpy(), (codes - zero) * scale)


def test_activation_error_is_at_most_half_a_step_and_zeros_stay():
    x = random(1000) * 2 + 0.7
    x[::10] = 0
    y = fake_quantize_activation(x)
    step = (x.max().double() - x.min().double()) / 255
    assert (y.double() - x.double()).abs().max() <= step / 2 * (1 + 1e-4)
    assert (y[::10] == 0).all()
    assert y.unique().numel() <= 256


def weight_reference(w: torch.Tensor, axis: int) -> np.ndarray:
    """Codes in float64: symmetric, amax / 127, halves to even; random weights lie on no tie."""
    values = w.numpy().astype(np.float64)
    others = tuple(i for i in range(w.dim()) if i != axis)
    amax = np.abs(values).max(axis=others, keepdims=True)
    return np.rint(values / np.where(amax == 0, 1, amax / 127))


@pytest.mark.parametrize("axis", [0, 1])
def test_weight_codes_and_scale(axis):
    w = random(24, 40)
    codes, scale = quantize_weight(w, axis=axis)
    assert codes.dtype == torch.int8
    assert scale.shape == {0: (24, 1), 1: (1, 40)}[axis]
    assert np.array_equal(codes.numpy(), weight_reference(w, axis))
    assert codes.abs().max() == 127
    assert torch.equal(fake_quantize_weight(w, axis=axis), codes * scale)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weight_has_as_many_levels_as_its_bits_allow(bits):
    rounded = fake_quantize_weight(torch.linspace(-1, 1, 4000)[None], Uniform(bits=bits))
    torch.testing.assert_close(rounded.unique(), torch.linspace(-1, 1, 2**bits - 1))


def test_rows_of_zeros_and_of_almost_zeros_are_zero():
    w = torch.stack([torch.zeros(5), torch.full((5,), 1e-42), random(5)])
    codes, scale = quantize_weight(w)
    assert scale[:2].flatten().tolist() == [1, 1]
    assert (codes[:2] == 0).all()
    assert fake_quantize_weight(w).isfinite().all()


def test_pruned_weights_stay_zero():
    w = random(16, 16)
    w[w.abs() < 0.5] = 0
    assert torch.equal(fake_quantize_weight(w) == 0, quantize_weight(w)[0] == 0)
    assert (fake_quantize_weight(w)[w == 0] == 0).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_on_their_grid_come_back_unchanged(axis):
    for seed in range(20):
        once = fake_quantize_weight(random(64, 48, seed=seed) * 10 ** (seed % 7 - 3), axis=axis)
        assert torch.equal(fake_quantize_weight(once, axis=axis), once)
        assert torch.equal(quantize_weight(once, axis=axis)[1] * quantize_weight(once, axis=axis)[0], once)


def test_every_scale_survives_a_second_quantization():
    """fl(fl(127 s) / 127) = s for s = fl(a / 127), for all significands a: why the fold is exact."""
    amax = torch.arange(2**23, 2**24, 37, dtype=torch.int64).float()
    scale = amax / 127
    assert torch.equal(scale * 127 / 127, scale)


@pytest.mark.parametrize("function", [fake_quantize_weight, fake_quantize_activation])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_passes_straight_through(function, dtype):
    x = random(6, 10).to(dtype).requires_grad_()
    y, grad = function(x), random(6, 10, seed=1).to(dtype)
    assert y.dtype == dtype
    y.backward(grad)
    assert torch.equal(x.grad, grad)


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="^bits: must be 2 to 8"):
        ActivationQuantizer(bits=bits)


def test_a_token_has_a_range_of_its_own():
    """Each row as if it were alone, in any company; of one token it is the range of the tensor."""
    x, kind = random(3, 5, 16) * torch.arange(1, 6)[:, None], ActivationQuantizer(bits=4, granularity="token")
    rounded = fake_quantize_activation(x, kind)
    for i, j in [(0, 0), (1, 3), (2, 4)]:
        alone = x[i, j].double().numpy()
        low, high = min(alone.min(), 0), max(alone.max(), 0)
        scale = np.float32((high - low) / 15)
        zero = np.clip(np.round(-low / scale), 0, 15)
        expected = (np.clip(np.round(alone / scale) + zero, 0, 15) - zero) * scale
        np.testing.assert_allclose(rounded[i, j].numpy(), expected, atol=1e-5)
        assert torch.equal(rounded[i, j], fake_quantize_activation(x[i, j], ActivationQuantizer(bits=4)))
    padded = torch.cat([x, 100 * random(3, 2, 16, seed=1)], dim=1)
    assert torch.equal(fake_quantize_activation(padded, kind)[:, :5], rounded)
    with_gradient = x.clone().requires_grad_()
    fake_quantize_activation(with_gradient, kind).sum().backward()
    assert torch.equal(with_gradient.grad, torch.ones_like(x))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_symmetric_range_reaches_as_far_to_both_sides(bits):
    x, top = random(3, 5, 16) * torch.arange(1, 6)[:, None], 2 ** (bits - 1) - 1
    x[1, 2] = 0
    rounded = fake_quantize_activation(x, ActivationQuantizer(bits=bits, granularity="token", symmetric=True))
    scale = np.abs(x.numpy()).max(-1, keepdims=True) / np.float32(top)
    expected = np.round(x.numpy() / np.where(scale == 0, 1, scale)) * scale
    np.testing.assert_array_equal(rounded.numpy(), expected)
    torch.testing.assert_close(rounded.abs().amax(-1), x.abs().amax(-1))
    assert len(rounded[0, 0].unique()) <= 2 * top + 1
    whole = fake_quantize_activation(x, ActivationQuantizer(bits=bits, symmetric=True))
    per_token = fake_quantize_activation(
        x.flatten(), ActivationQuantizer(bits=bits, granularity="token", symmetric=True)
    )
    assert torch.equal(whole, per_token.view_as(x))
    with_gradient = x.clone().requires_grad_()
    fake_quantize_activation(with_gradient, ActivationQuantizer(symmetric=True)).sum().backward()
    assert torch.equal(with_gradient.grad, torch.ones_like(x))


def test_a_share_is_rounded_in_training_and_all_is_in_evaluation():
    step, weight = FakeQuant([Uniform(bits=2)]), random(200, 200)
    step.enabled, step.quant_noise = True, 0.3
    torch.manual_seed(0)
    rounded, drawn = step.eval()(weight), step.train()(weight)
    there = rounded != weight
    assert there.float().mean() > 0.99
    assert (drawn[there] == rounded[there]).float().mean() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(drawn[drawn != rounded], weight[drawn != rounded])
    assert not torch.equal(step(weight), drawn), "drawn anew each time"
    step.quant_noise = 1.0
    assert torch.equal(step(weight), rounded)


def test_weight_axis_by_kind():
    assert weight_axis(nn.Linear(2, 3)) == weight_axis(nn.Embedding(2, 3)) == 0
    assert weight_axis(Conv1D(3, 2)) == 1
    with pytest.raises(ValueError, match="LayerNorm"):
        weight_axis(nn.LayerNorm(2))


def test_activations_without_features_stay_so():
    cache = InputCache()
    for _ in range(2):
        nothing = torch.zeros(2, 3, 0, requires_grad=True)
        assert cache(nothing).shape == fake_quantize_activation(nothing).shape == (2, 3, 0)
