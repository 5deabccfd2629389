"""From fake quantization to the int8 file: the numerics that were trained are the ones that run."""

import copy
import logging

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils import parametrize
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification
from transformers.pytorch_utils import Conv1D

from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantizers.activations import FakeQuantInput, InputCache, fake_quantize_activation
from quant_aware.quantizers.fake_quant import FakeQuant, fake_quantize_weight, quantize_weight, weight_axis

LAYERS = (nn.Linear, Conv1D, nn.Embedding)
VOCABULARY = 30000


def bert(layers: int = 2) -> nn.Module:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        num_labels=3,
        initializer_range=0.3,
    )
    return BertForSequenceClassification(config)


def gpt2() -> nn.Module:
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=40,
        num_labels=3,
        pad_token_id=0,
        initializer_range=0.3,
    )
    return GPT2ForSequenceClassification(config)


def batch(*lengths: int) -> dict[str, torch.Tensor]:
    """Random tokens, padded at the right with 0; labels, which the file must ignore."""
    generator = torch.Generator().manual_seed(sum(lengths))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.zeros(len(lengths), dtype=torch.long)}


class Files:
    """A model in all its forms: fake-quantised, folded, and the two files."""

    def __init__(self, build, folder):
        torch.manual_seed(0)
        # Biases start as zeros; a trained model has others.
        self.plain = build().eval()
        for parameter in self.plain.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        self.fake, cache = copy.deepcopy(self.plain), InputCache()
        for module in [m for m in self.fake.modules() if isinstance(m, LAYERS)]:
            step, hook = FakeQuant(axis=weight_axis(module)), FakeQuantInput(cache)
            step.enabled = hook.enabled = True
            parametrize.register_parametrization(module, "weight", step)
            if not isinstance(module, nn.Embedding):
                module.register_forward_pre_hook(hook)
        # Not by removing the steps of a copy: it shares its classes with the original, which would lose them.
        self.folded = copy.deepcopy(self.plain)
        for name, module in self.folded.named_modules():
            if isinstance(module, LAYERS):
                module.weight.data = self.fake.get_submodule(name).weight.detach()
        self.fp32_path, self.int8_path = folder / "fp32.onnx", folder / "int8.onnx"
        export_onnx(self.folded, batch(7, 5), self.fp32_path)
        quantize_onnx(self.fp32_path, self.int8_path)
        self.fp32, self.int8 = OnnxModel(self.fp32_path), OnnxModel(self.int8_path)


@pytest.fixture(scope="module", params=[bert, gpt2], ids=["bert", "gpt2"])
def files(request, tmp_path_factory):
    return Files(request.param, tmp_path_factory.mktemp(request.param.__name__))


def logits(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits


@pytest.mark.parametrize("lengths", [(1,), (9,), (40,), (12, 3, 8, 1), (30,) * 3])
def test_float_file_is_the_folded_model_for_any_batch_and_length(files, lengths):
    inputs = batch(*lengths)
    torch.testing.assert_close(files.fp32(inputs), logits(files.folded, inputs), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [(1,), (9,), (12, 3, 8, 1), (30,) * 3])
def test_int8_file_is_the_fake_quantised_model(files, lengths):
    inputs = batch(*lengths)
    fake, real = logits(files.fake, inputs), files.int8(inputs)
    # An activation on the edge between two codes may fall to either side, as float sums differ in order.
    torch.testing.assert_close(real, fake, atol=1e-4, rtol=1e-4)
    assert torch.equal(real.argmax(1), fake.argmax(1))


def test_quantising_activations_is_what_makes_the_difference(files):
    """Else the test above would pass with hooks that do nothing."""
    inputs = batch(12, 3, 8, 1)
    assert (logits(files.fake, inputs) - logits(files.folded, inputs)).abs().max() > 1e-3


def test_int8_codes_give_exactly_the_folded_weights(files):
    """As multisets: the exporter renames the matrices of nn.Linear, and transposes them."""
    constants = {t.name: numpy_helper.to_array(t) for t in onnx.load(files.int8_path).graph.initializer}
    layers = {}
    for name, codes in constants.items():
        if codes.dtype == np.int8 and codes.ndim == 2:
            scale = constants[name.removesuffix("_quantized").removesuffix("_codes") + "_scale"]
            values = torch.from_numpy(codes.astype(np.float32) * scale)
            layers[name] = values
    expected = [m.weight.detach() for m in files.folded.modules() if isinstance(m, LAYERS)]
    assert len(layers) == len(expected)
    for weight in expected:
        assert any(torch.equal(v, weight) or torch.equal(v, weight.T) for v in layers.values())


def test_every_constant_product_is_int8_and_nothing_else(files):
    nodes = onnx.load(files.int8_path).graph.node
    constants = {t.name: t.data_type for t in onnx.load(files.int8_path).graph.initializer}
    products = sum(isinstance(m, (nn.Linear, Conv1D)) for m in files.folded.modules())
    assert sum(n.op_type == "MatMulInteger" for n in nodes) == products
    assert not [n for n in nodes if n.op_type == "Gemm"]
    assert not [n for n in nodes if n.op_type == "MatMul" and set(n.input) & set(constants)]
    biases = [n for n, kind in constants.items() if n.endswith("bias") and kind != TensorProto.FLOAT]
    assert not biases


def test_sizes(files):
    assert files.int8_path.stat().st_size < files.fp32_path.stat().st_size / 3
    assert files.int8_path.stat().st_size < 2 * sum(p.numel() for p in files.plain.parameters())  # bf16
    assert [p.name for p in sorted(files.fp32_path.parent.iterdir())] == ["fp32.onnx", "int8.onnx"]


def test_files_name_no_folder_of_this_machine(files):
    for path in (files.fp32_path, files.int8_path):
        assert b".py" not in path.read_bytes()


def test_inputs_and_outputs_by_name(files):
    assert files.int8.inputs == files.fp32.inputs == ["input_ids", "attention_mask"]
    with pytest.raises(ValueError, match="lacks attention_mask"):
        files.int8({"input_ids": torch.ones(1, 2, dtype=torch.long)})


def test_export_reads_token_types_keeps_the_attention_and_is_silent(tmp_path, capfd, recwarn, caplog):
    torch.manual_seed(0)
    model, inputs = bert(layers=1), batch(6, 4)
    caplog.set_level(logging.WARNING)
    inputs["token_type_ids"] = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]])
    handlers, before = list(logging.root.handlers), model.config._attn_implementation
    export_onnx(model, inputs, tmp_path / "fp32.onnx")
    quantize_onnx(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    assert (*capfd.readouterr(), list(recwarn)) == ("", "", [])
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert logging.root.handlers == handlers
    assert model.config._attn_implementation == before == "sdpa"
    file = OnnxModel(tmp_path / "fp32.onnx")
    assert file.inputs == ["input_ids", "attention_mask", "token_type_ids"]
    expected = model(**inputs).logits.detach()
    torch.testing.assert_close(file(inputs), expected, atol=2e-5, rtol=1e-4)
    other = file(inputs | {"token_type_ids": torch.zeros(2, 6, dtype=torch.long)})
    assert not torch.allclose(other, expected, atol=1e-3)


def test_a_sample_that_cannot_be_generalised_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no input_ids; it has labels"):
        export_onnx(bert(), {"labels": torch.zeros(1)}, tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="at least 2 tokens"):
        export_onnx(bert(), batch(1), tmp_path / "x.onnx")


def one_product(path, weight: torch.Tensor) -> None:
    """A float32 file that computes ``logits = x @ weight``."""
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size])
        for name, size in zip(("x", "logits"), weight.shape, strict=False)
    ]
    node = helper.make_node("MatMul", ["x", "w"], ["logits"], name="product")
    constants = [numpy_helper.from_array(weight.numpy(), "w")]
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_a_product_of_codes_is_exact(tmp_path):
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(256, 24, generator=generator), torch.randn(8, 256, generator=generator) + 1
    one_product(tmp_path / "fp32.onnx", weight)
    quantize_onnx(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    exact = fake_quantize_activation(x).double() @ fake_quantize_weight(weight, axis=1).double()
    got = OnnxModel(tmp_path / "int8.onnx")({"x": x}).double()
    assert ((got - exact).abs() <= 4e-7 * exact.abs().max()).all()


def test_largest_codes_do_not_overflow_on_any_processor(tmp_path):
    """Two products of 255 and 127 pass 16 bits, where ONNX Runtime int8_saturates on x86 without VNNI."""
    one_product(tmp_path / "fp32.onnx", torch.full((64, 16), 127.0))
    quantize_onnx(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    got = OnnxModel(tmp_path / "int8.onnx")({"x": torch.full((4, 64), 255.0)})
    assert torch.equal(got, torch.full((4, 16), 64 * 255 * 127.0))


def test_the_exact_kernel_gives_the_same_logits(files, monkeypatch):
    inputs = batch(12, 3, 8, 1)
    monkeypatch.setattr("quant_aware.export.onnx_model.int8_saturates", lambda: True)
    torch.testing.assert_close(OnnxModel(files.int8_path)(inputs), files.int8(inputs), atol=1e-5, rtol=1e-5)


def test_rows_of_a_tied_table_and_head_share_one_grid():
    """One scale per row serves the lookup and, transposed, the output channels of a head tied to it."""
    head, table = nn.Linear(16, 50, bias=False), nn.Embedding(50, 16)
    head.weight = table.weight
    pair = [quantize_weight(m.weight, axis=weight_axis(m)) for m in (head, table)]
    assert all(torch.equal(a, b) for a, b in zip(*pair, strict=False))
