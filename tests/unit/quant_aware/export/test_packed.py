"""Files of few bits: what comes out is what went in, and they are as small as said."""

import pytest
import torch
from safetensors.torch import save_file

from quant_aware.export.packed import QuantizedWeight, load_packed, pack, save_packed, unpack
from quant_aware.quantizers.uniform import Uniform
from tests.unit.quant_aware.quantizers.test_quantizer import QUANTIZERS, random, rounded_weight


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 64])
def test_codes_are_packed_side_by_side(width, count):
    codes = torch.randint(2**width, (count,), generator=torch.Generator().manual_seed(width))
    packed = pack(codes, width)
    assert packed.dtype == torch.uint8 and len(packed) == -(-count * width // 8)
    assert torch.equal(unpack(packed, width, count), codes)
    number = sum(int(code) << (width * place) for place, code in enumerate(codes))
    assert packed.numpy().tobytes() == number.to_bytes(len(packed), "little")


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("above", [-10.0, -2.5, 0.0], ids=["whole", "few zeros", "half zeros"])
def test_what_was_trained_comes_out_of_the_file(quantizer, axis, above, tmp_path):
    """Of a weight that is quantized already, as a folded student's does."""
    weight = random(48, 32) * (random(48, 32, seed=1) > above)
    folded = rounded_weight(quantizer, weight, axis)
    tensors = {"a.weight": folded, "a.bias": random(48)}
    save_packed(tensors, {"a.weight": QuantizedWeight(quantizer, axis)}, tmp_path / "x.safetensors")
    loaded = load_packed(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys() and torch.equal(loaded["a.bias"], tensors["a.bias"])
    torch.testing.assert_close(loaded["a.weight"], folded, rtol=1e-6, atol=1e-7)
    assert torch.equal(loaded["a.weight"] == 0, folded == 0)


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
def test_a_weight_that_lies_on_no_grid_is_not_written(quantizer, tmp_path):
    with pytest.raises(ValueError, match="^a is not quantized by "):
        save_packed({"a": random(48, 32)}, {"a": QuantizedWeight(quantizer, 0)}, tmp_path / "x.safetensors")


def test_one_step_for_a_table_outlives_its_largest_rows(tmp_path):
    """As those of tokens that leave the vocabulary."""
    quantizer = Uniform(bits=4, granularity="tensor")
    folded = rounded_weight(quantizer, random(48, 32))
    unclipped = folded[folded.abs().amax(dim=1) < folded.abs().max()]
    save_packed({"a": unclipped}, {"a": QuantizedWeight(quantizer, 0)}, tmp_path / "x.safetensors")
    torch.testing.assert_close(load_packed(tmp_path / "x.safetensors")["a"], unclipped, rtol=1e-6, atol=1e-7)


SHARES = {"uniform 8": 1 / 4, "powers": 1 / 8, "ternary": 1 / 16, "binary": 1 / 32}


@pytest.mark.parametrize(("name", "share"), SHARES.items())
def test_the_file_is_as_small_as_its_bits(name, share, tmp_path):
    weight = rounded_weight(QUANTIZERS[name], random(256, 768))
    save_file({"weight": weight}, tmp_path / "whole.safetensors")
    save_packed({"weight": weight}, {"weight": QuantizedWeight(QUANTIZERS[name], 0)}, tmp_path / "packed.safetensors")
    plain_bytes, packed_bytes = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "packed"))
    assert packed_bytes < share * plain_bytes + 256 * 4 + 500


def test_few_zeros_are_named_and_many_have_a_bit_each(tmp_path):
    quantizer, weight = QUANTIZERS["binary"], random(64, 64)
    sizes = []
    for zeros in (0, 1, 64 * 64 // 2):
        weight.flatten()[:zeros] = 0
        save_packed(
            {"a": rounded_weight(quantizer, weight)}, {"a": QuantizedWeight(quantizer, 0)}, tmp_path / "x.safetensors"
        )
        sizes.append((tmp_path / "x.safetensors").stat().st_size)
    assert sizes[1] < sizes[0] + 150 < sizes[2] < sizes[0] + 64 * 64 // 8 + 150
