"""What is quantized of a model, on which grid, and that it is folded to what was trained."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from distill.export.export import layer_facts, write_onnx
from quant_aware.calibration.bit_allocation import BitAllocation
from quant_aware.callback import QuantizeAware
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantize import Quantize
from quant_aware.quantizers.activations import ActivationQuantizer
from quant_aware.quantizers.fake_quant import FakeQuant
from quant_aware.quantizers.product import Product
from quant_aware.quantizers.ternary import Binary, Ternary
from quant_aware.quantizers.uniform import Uniform
from students.weights import find_weight_transforms, fold, raw_parameter, weight_matrices
from tests.helpers.families import batch, tiny
from tests.helpers.students.quantized import TIMELINE, attached


@pytest.mark.filterwarnings("ignore")
def test_int8_of_such_a_model_is_what_onnxruntime_computes(tmp_path):
    model, inputs = tiny("gpt2", head="lm").eval(), batch("gpt2", head="lm")
    quantize = Quantize()
    attached(model, quantize)
    with torch.no_grad():
        trained = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    quantize.quantize_full_embeddings()
    fold(model)
    quantize.remove_input_hooks()
    export_onnx(model, inputs, tmp_path / "fp32.onnx")
    quantize_onnx(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    logits = OnnxModel(tmp_path / "int8.onnx")(inputs)
    valid = inputs["attention_mask"].bool()
    assert (logits.argmax(-1) == trained.argmax(-1))[valid].float().mean() > 0.95
    assert float((logits - trained)[valid].abs().max()) < 0.1 * float(trained[valid].std())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["bert", pytest.param("gpt2", marks=pytest.mark.slow), "t5"])
def test_the_tables_that_are_int8_in_the_file_are_those_that_training_rounds(name, tmp_path):
    """Not T5's of relative positions, which the report does not call int8, either."""
    model, inputs = tiny(name, layers=1), batch(name)
    quantize = Quantize()
    attached(model, quantize)
    quantize.quantize_full_embeddings()
    fold(model)
    quantize.remove_input_hooks()
    write_onnx(model, inputs, tmp_path / "int8.onnx", quantize)
    held = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer
    }
    weights = [codes * held[f"{key[:-6]}_scale"] for key, codes in held.items() if key.endswith("_codes")]
    names = {key for key, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    tables = {
        model.get_parameter(key) for key in quantize.quantized_weights(model) if key.removesuffix(".weight") in names
    }
    assert len(weights) == len(tables) > 0
    assert all(any(np.array_equal(table.detach(), values) for values in weights) for table in tables)
    said = {
        layer["name"]
        for layer in layer_facts(model, quantize, {key: 1 for key in weight_matrices(model)})
        if layer["bits"] > 8
    }
    assert said == {key for key in names if key.endswith("relative_attention_bias")}
    assert len(said) == (2 if name == "t5" else 0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_weights_are_moved_so_that_outputs_stay(name):
    """Those of the layers in blocks, and no tables."""
    errors, moved = {}, {}
    for batches in (0, 1):
        model, rows = tiny(name).eval(), batch(name)
        rows.pop("labels", None)
        exact, quantize = model(**rows).logits, Quantize(weights=Uniform(bits=4, learn=True), activations=None)
        quantize.gptq = batches
        before = {module: module.weight.clone() for module in quantize.find(model)[0].values()}
        attached(model, quantize)
        quantize.calibrate(model, False, [rows])
        errors[batches] = float((model(**rows).logits - exact).square().mean())
        moved[batches] = [module for module, weight in before.items() if not torch.equal(raw_parameter(module), weight)]
    assert errors[1] < errors[0] and not moved[0]
    assert moved[1] and not any(isinstance(module, torch.nn.Embedding) for module in moved[1])


def test_one_table_cannot_lie_on_two_grids():
    with pytest.raises(ValueError, match="^overrides: no .* 'lm_head.*'; lm_head is tied to transformer.wte.weight"):
        attached(tiny("gpt2", head="lm"), Quantize(weights=Uniform(bits=4), overrides={"lm_head.*": Uniform()}))
    both = {"lm_head.*": Ternary(), "*.wte.*": Ternary()}
    assert attached(tiny("gpt2", head="lm"), Quantize(overrides=both)) == {}
    quantize = Quantize(weights=Uniform(granularity="tensor"))
    assert sorted(attached(tiny("gpt2", head="lm"), quantize)) == ["lm_head", "transformer.wte"]


def test_grids_go_by_names_and_the_first_pattern_counts():
    model = tiny("bert")
    overrides = {"*.layer.0.output*": Binary(), "*.layer.0.*": Ternary(), "classifier.*": None}
    quantize = Quantize(weights={"20%": Uniform(), "50%": Uniform(bits=4)}, overrides=overrides)
    skipped = attached(model, quantize, step=3)
    assert skipped == {"classifier": "left out by overrides"}
    quantizers = {
        key.rsplit(".", 2)[0]: step.quantizer for key, step in find_weight_transforms(model, FakeQuant).items()
    }
    assert quantizers["bert.encoder.layer.0.output.dense"] == Binary()
    assert quantizers["bert.encoder.layer.0.intermediate.dense"] == Ternary()
    assert quantizers["bert.pooler.dense"] == Uniform()
    quantize.update(5, TIMELINE)
    assert quantize.quantized_weights(model)["bert.pooler.dense.weight"] == (Uniform(bits=4), 0)
    assert quantize.quantized_weights(model)["bert.encoder.layer.0.intermediate.dense.weight"] == (Ternary(), 0)
    quantize.update(1, TIMELINE)
    assert not quantize.enabled and not any(step.enabled for step in find_weight_transforms(model, FakeQuant).values())


def test_bits_are_those_of_a_number_and_not_of_the_code_of_a_piece():
    model, quantize = tiny("bert"), Quantize(weights=Product(bits=6, subvector_size=4), activations=None)
    attached(model, quantize)
    module, callback = SimpleNamespace(student=model, timeline=TIMELINE), QuantizeAware(quantize)
    callback.on_fit_end(SimpleNamespace(global_step=9), module)
    assert callback.curves == {"bits": 1.5}
    quantize.quantize_full_embeddings()
    fold(model)
    assert {layer["bits"] for layer in layer_facts(model, quantize, {key: 1 for key in weight_matrices(model)})} == {
        1.5
    }


@pytest.mark.parametrize(
    ("given", "target", "precision"),
    [
        ({}, "onnxruntime", "int8"),
        ({"weights": {"10%": Ternary(), "50%": Uniform()}}, "onnxruntime", "int8"),
        ({"target": "packed"}, "packed", "8-bit"),
        ({"activations": None}, "packed", "8-bit"),
        ({"activations": ActivationQuantizer(granularity="token", symmetric=True)}, "onnxruntime", "int8"),
        ({"activations": ActivationQuantizer(granularity="token")}, "packed", "8-bit"),
        ({"activations": ActivationQuantizer(symmetric=True)}, "packed", "8-bit"),
        ({"activations": ActivationQuantizer(bits=4, granularity="token", symmetric=True)}, "packed", "8-bit"),
        ({"weights": Uniform(granularity="tensor")}, "packed", "8-bit"),
        ({"overrides": {"*": Binary()}}, "packed", "1 and 8-bit"),
        ({"overrides": {"classifier.*": None}}, "packed", "8-bit"),
        ({"overrides": {"*embeddings*": Product(bits=8, subvector_size=4)}}, "packed", "2 and 8-bit"),
        ({"weights": Product(bits=6, subvector_size=4)}, "packed", "1.5-bit"),
        ({"bit_allocation": BitAllocation(average_bits=4)}, "packed", "2 to 8-bit"),
        (
            {"bit_allocation": BitAllocation(average_bits=4), "overrides": {"*embeddings*": Product(bits=6)}},
            "packed",
            "1.5 to 8-bit",
        ),
    ],
)
def test_the_target_is_the_one_that_can(given, target, precision):
    quantize = Quantize(**given)
    assert (quantize.target, quantize.precision) == (target, precision)
    if target == "packed" and given.get("target") is None:
        with pytest.raises(ValueError, match="^target: onnxruntime needs 8 bits"):
            Quantize(**given, target="onnxruntime")
