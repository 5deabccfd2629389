"""Students in two factors are saved, loaded, copied, exported and cut as any other."""

import copy
import pickle

import onnx
import pytest
import torch

from prune_schedules.schedule import Timeline
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantize import Quantize
from students.families.linear import is_linear
from students.structure.factored import apply_ranks
from students.tokenizer.vocabulary import cut_vocabulary
from students.weights import fold
from tests.helpers.families import batch, tiny
from tests.helpers.students.low_rank import ALL, build, logits, logits_of


def test_copies_and_pickles_go_through_both_factors():
    model = build("t5", "language", where=ALL)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(other, "t5", "language"), logits(model, "t5", "language"))
        assert other.num_parameters() == model.num_parameters()


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"encoder": [{}], "outside": {}}, "do not list the blocks"),
        ({"decoder": [{}, {}], "outside": {}}, "do not list the blocks"),
        ({"encoder": [{"attention.self.quary": 3}, {}], "outside": {}}, "there is no attention.self.quary of rank 3"),
        ({"encoder": [{"output.dense": -1}, {}], "outside": {}}, "there is no output.dense of rank -1"),
    ],
)
def test_ranks_that_do_not_fit_are_refused(wanted, message):
    with pytest.raises(ValueError, match=f"^ranks: {message}"):
        apply_ranks(tiny("bert"), wanted)


@pytest.mark.slow
def test_its_file_for_onnxruntime_gives_the_same(tmp_path):
    model = build("t5", "language", layers=1, where=ALL)
    export_onnx(model, batch("t5", size=2), tmp_path / "x.onnx")
    wider = batch("t5", size=3, length=11)
    del wider["decoder_attention_mask"]  # the file asks for none
    torch.testing.assert_close(OnnxModel(tmp_path / "x.onnx")(wider), logits_of(model, wider), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_the_8_bits_of_training_are_those_of_the_file(name, tmp_path):
    """What lies between two factors is rounded as well, and of an embedding the rows before they are made wide."""
    model, inputs = build(name, layers=1, where=ALL), batch(name, size=2)
    quantize = Quantize()
    assert not {key for key in quantize.attach(model) if "input_factor" in key or "output_factor" in key}
    quantize.update(0, Timeline(total_steps=1, epoch_steps=1))
    quantize.enabled = True
    training = logits_of(model, inputs)
    quantize.quantize_full_embeddings()
    fold(model)
    torch.testing.assert_close(logits_of(model, inputs), training, rtol=0, atol=1e-5)
    quantize.remove_input_hooks()
    expected = logits_of(model, inputs)
    export_onnx(model, inputs, tmp_path / "x.onnx")
    quantize_onnx(tmp_path / "x.onnx", tmp_path / "int8.onnx")
    deployed = OnnxModel(tmp_path / "int8.onnx")(inputs)
    torch.testing.assert_close(deployed, training, rtol=0, atol=2e-3)
    assert (deployed - expected).abs().max() > 5 * (deployed - training).abs().max()
    products = [node for node in onnx.load(tmp_path / "int8.onnx").graph.node if node.op_type == "MatMulInteger"]
    assert len(products) == sum(is_linear(module) for module in model.modules())


def test_a_smaller_vocabulary_is_cut_out_of_its_table():
    model, inputs = build("bert", where=ALL), batch("bert")
    keep = torch.tensor(sorted({0, *range(5, 100)}))
    new = torch.zeros(100, dtype=torch.long)
    new[keep] = torch.arange(len(keep))
    before = logits_of(model, inputs | {"input_ids": keep[new[inputs["input_ids"]]]})
    cut_vocabulary(model, keep)
    assert model.get_input_embeddings().weight.shape[0] == len(keep)
    after = logits_of(model, inputs | {"input_ids": new[inputs["input_ids"]]})
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
