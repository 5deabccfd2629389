"""Students of every kind are int8 in the file where training rounded them, and only there."""

import onnx
import pytest
import torch
from transformers import AutoModelForCausalLM

from students.forms.attention import Linformer
from students.forms.embeddings import TensorTrain
from students.forms.share_layers import ShareLayers
from students.kinds.recurrent import LSTM
from students.kinds.transformer import Transformer
from tests.helpers.families import low_rank, tiny
from tests.integration.exports.int8 import TOKENS, Files, large_floats, samples

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


KINDS = {
    "low rank": (low_rank(["attention", "ffn", "embeddings", "head"], layers=1), "bert", {}),
    "low rank decoder": (low_rank(["attention", "ffn", "embeddings", "head"], layers=1), "gpt2", {}),
    "shared": (Transformer(share_layers=ShareLayers()), "bert", {}),
    "tensor train": (Transformer(layers=1, embeddings=TensorTrain(rank=4)), "bert", {}),
    "LSTM": (LSTM(hidden=8), "bert", {}),
    "projected LSTM": (LSTM(hidden=8, projection=5), "bert", {}),
    "LSTM that writes": (LSTM(hidden=8, bidirectional=False), "bert", {"head": AutoModelForCausalLM}),
    "Linformer": (Transformer(layers=1, attention=Linformer(length=66)), "bert", {}),
}


def built(name):
    kind, teacher, given = KINDS[name]
    labels = None if given else {0: "a", 1: "b", 2: "c"}
    return kind.build(tiny(teacher), labels, None, *given.values()).eval(), teacher


@pytest.mark.parametrize("name", KINDS)
def test_other_students_are_int8_where_training_rounded_them_and_only_there(name, tmp_path):
    model, teacher = built(name)
    files = Files(model, samples(model, teacher, vocab=100), tmp_path / "x.onnx")
    files.check()
    # Linformer's products over tokens were not rounded in training, and have no inputs that could be.
    assert bool(large_floats(files.constants)) == (name == "Linformer")


def test_an_lstm_has_one_answer_too_and_computes_with_float32(tmp_path):
    model, teacher = built("LSTM")
    files = Files(model, samples(model, teacher, vocab=100), tmp_path / "x.onnx", TOKENS)
    files.check()
    assert len(files.skipped) == 4 and "quantizes recurrent inputs per tensor only" in str(files.skipped)
    kinds = {node.op_type for node in onnx.load(files.path).graph.node}
    assert "LSTM" in kinds and "DynamicQuantizeLSTM" not in kinds and large_floats(files.constants) == []
    alone = {key: value[:1] for key, value in files.given[0].items()}
    torch.testing.assert_close(files.exported(alone)[0], files.exported(files.given[0])[0], rtol=0, atol=1e-5)
