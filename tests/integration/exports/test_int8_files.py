"""Every weight that was rounded in training is int8 in the file, with the numbers that it had, and nothing else is."""

from functools import cache

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from distill.evaluation.measure import torch_predict
from distill.export.export import rounded_weights, write_packed
from prune_schedules.schedule import Timeline
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_check import int8_mismatches
from quant_aware.export.onnx_model import OnnxModel, int8_saturates, untie_int8_weights
from quant_aware.export.packed import load_packed
from quant_aware.quantize import Quantize
from quant_aware.quantizers.activations import ActivationQuantizer
from students.weights import fold
from tests.helpers.families import _auto, tiny_config
from tests.integration.exports.int8 import TOKENS, VOCABULARY, Files, large_floats, samples

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


def language(name, tied=True, vocab=VOCABULARY):
    """A random model with a head that writes tokens, whose matrix may be the token embeddings."""
    config = tiny_config(name, layers=1, vocab=vocab)
    config.tie_word_embeddings = tied
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _auto(name, "language").from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.2 if parameter.ndim > 1 else 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the files of a tied model by its family; each is exported once for all tests."""

    @cache
    def files(name):
        model = language(name)
        return Files(model, samples(model, name), tmp_path_factory.mktemp(name) / "x.onnx")

    return files


@pytest.mark.parametrize(
    "name", ["gpt2", pytest.param("llama", marks=pytest.mark.slow), "t5", "bert", "albert", "electra"]
)
def test_a_head_tied_to_the_token_embeddings_is_one_int8_matrix(name, exported):
    """With a bias (BERT), scaled inputs (T5), of another width than the hidden states (ALBERT, ELECTRA), and of an
    encoder and a decoder at once."""
    files = exported(name)
    model = files.model
    files.check()
    tables = [tensor for tensor in files.constants if VOCABULARY in tensor.dims and len(tensor.dims) > 1]
    assert sorted((tensor.data_type, max(1, min(tensor.dims))) for tensor in tables) == [
        (TensorProto.FLOAT, 1),  # the scales of rows
        (TensorProto.INT8, model.get_input_embeddings().weight.shape[1]),
    ]
    assert large_floats(files.constants) == []
    # A byte for each number of a matrix, four for each scale, bias and norm; the rest is the graph.
    graph = onnx.load(files.path)
    del graph.graph.initializer[:]
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    codes, plain = (sum(weight.numel() for weight in model.parameters() if weight.ndim == n) for n in (2, 1))
    least = codes + 4 * (sum(len(weight) for weight in matrices) + plain)
    size = files.path.stat().st_size - graph.ByteSize()
    assert 0.95 * least < size < 1.05 * least + 6000
    agreed = [
        (files.exported(rows).argmax(-1) == expected.argmax(-1)).float().mean()
        for rows, expected in zip(files.given, files.trained, strict=True)
    ]
    assert sorted(agreed)[2] >= 0.999


@pytest.mark.parametrize("name", ["gpt2", pytest.param("bert", marks=pytest.mark.slow)])
def test_a_small_table_is_written_once_too(name, tmp_path):
    """Of few numbers the exporter makes a turned copy by itself."""
    model = language(name, vocab=60)
    files = Files(model, samples(model, name, vocab=60), tmp_path / "x.onnx")
    files.check()
    assert sum(60 in tensor.dims and tensor.data_type == TensorProto.INT8 for tensor in files.constants) == 1


@pytest.mark.parametrize("name", ["gpt2", pytest.param("t5", marks=pytest.mark.slow)])
def test_a_head_of_its_own_is_int8_beside_the_table(name, tmp_path):
    model = language(name, tied=False)
    files = Files(model, samples(model, name), tmp_path / "x.onnx")
    files.check()
    assert large_floats(files.constants) == []


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bert"])
def test_the_packed_file_of_such_a_model_is_what_was_trained(name, tmp_path):
    model = language(name)
    quantize = Quantize(target="packed")
    quantize.attach(model)
    quantize.update(1, Timeline(total_steps=1, epoch_steps=1))
    given = samples(model, name)[0]
    trained = torch_predict(model)(given)
    quantize.quantize_full_embeddings()
    fold(model)
    quantize.remove_input_hooks()
    model.save_pretrained(tmp_path / "student")
    exported = write_packed(model, quantize, tmp_path, _auto(name, "language"))
    torch.testing.assert_close(exported.predict(given), trained, rtol=0, atol=1e-5)
    assert exported.path.stat().st_size < 1.35 * model.num_parameters()
    weights = load_packed(exported.path).values()
    assert sum(VOCABULARY in weight.shape and weight.ndim == 2 for weight in weights) == 1


def test_a_weight_that_stayed_float32_is_told(tmp_path, exported):
    """And one that is int8 though training did not round it, or has other numbers."""
    files = exported("gpt2")
    model = files.model
    weights = rounded_weights(model, files.quantize)
    export_onnx(model, files.given[0], tmp_path / "whole.onnx")
    fewer = {name: weight for name, weight in weights.items() if "lm_head" not in name and "wte" not in name}
    quantize_onnx(tmp_path / "whole.onnx", tmp_path / "y.onnx", fewer)
    assert int8_mismatches(tmp_path / "y.onnx", fewer) == []
    assert int8_mismatches(tmp_path / "y.onnx", weights) == [
        f"{name}.weight is float32 in the file, but was quantized to 8 bits in training"
        for name in ("transformer.wte", "lm_head")
    ]
    fewer = {name: weight for name, weight in weights.items() if "h.0.mlp.c_fc" not in name}
    (message,) = int8_mismatches(files.path, fewer)
    assert message.endswith("is int8 in the file, but its values are not those of training")
    # By the other axis: no matrix is on that grid, and none is made int8.
    turned = {name: (values, 1 - axis) for name, (values, axis) in weights.items() if "mlp" in name}
    quantize_onnx(tmp_path / "whole.onnx", tmp_path / "y.onnx", turned)
    assert len(int8_mismatches(tmp_path / "y.onnx", {name: weights[name] for name in turned})) == len(turned) == 2


@pytest.mark.parametrize("name", ["bert", "gpt2", pytest.param("t5", marks=pytest.mark.slow)])
def test_with_a_range_for_each_token_a_text_has_one_answer_in_any_batch(name, tmp_path, exported):
    """The file is what was trained, and padding and company change nothing; with one range for all they do."""
    model, differences = language(name), {}
    by_token = Files(model, samples(model, name), tmp_path / "x.onnx", TOKENS)
    by_token.check()
    for files in (exported(name), by_token):
        given = files.given[0]
        length = int(given["attention_mask"][2].sum())
        alone = {key: value[2:3, :length] for key, value in given.items()}
        together, single = files.exported(given)[2, :length], files.exported(alone)[0]
        differences[files] = float((together - single).abs().max()) / files.spread
    assert differences[by_token] < 1e-5
    assert differences[exported(name)] > 1e-3


@pytest.mark.parametrize("kind", [ActivationQuantizer(), TOKENS], ids=["tensor", "token"])
def test_two_heads_of_one_table_are_exact_on_every_cpu(kind, tmp_path, monkeypatch):
    """Largest codes pass 16 bits where ONNX Runtime saturates, and its exact kernel wants a matrix for each product."""

    table, x = torch.full((96, 64), 127.0), torch.full((4, 64), 255.0)
    ids = torch.zeros(1, dtype=torch.long)
    nodes = [
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("Gather", ["table", "ids"], ["row"]),
        helper.make_node("Add", ["x", "row"], ["moved"]),
        helper.make_node("MatMul", ["x", "turned"], ["one"]),
        helper.make_node("MatMul", ["moved", "turned"], ["two"]),
        helper.make_node("Add", ["one", "two"], ["logits"]),
    ]
    given = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64]),
    ]
    out = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 96])]
    graph = helper.make_graph(nodes, "g", given, out, [numpy_helper.from_array(table.numpy(), "table")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "x.onnx")
    quantize_onnx(tmp_path / "x.onnx", tmp_path / "y.onnx", {"table.weight": (table, 0)}, kind)
    expected = x @ table.T + (x + table[ids]) @ table.T
    file = onnx.load(tmp_path / "y.onnx")
    assert [list(tensor.dims) for tensor in file.graph.initializer if tensor.data_type == TensorProto.INT8] == [
        [96, 64]
    ]
    for exact in {True, int8_saturates()}:
        monkeypatch.setattr("quant_aware.export.onnx_model.int8_saturates", lambda exact=exact: exact)
        logits = OnnxModel(tmp_path / "y.onnx")({"ids": ids, "x": x})
        torch.testing.assert_close(logits, expected, rtol=1e-6, atol=0)
    products = [
        node.input[1] for node in untie_int8_weights(file).graph.node if node.op_type.startswith("MatMulInteger")
    ]
    assert len(products) == len(set(products)) == 2
