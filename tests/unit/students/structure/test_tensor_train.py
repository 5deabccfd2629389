"""Tables of words as tensor trains: against sums over all ranks in float64, the teacher at full rank, and loading."""

import itertools

import pytest
import torch
from transformers import AutoTokenizer

from quant_aware.export.onnx import export_onnx
from quant_aware.export.onnx_model import OnnxModel
from students.forms.embeddings import Factorised, TensorTrain
from students.kinds.recurrent import LSTM
from students.kinds.transformer import Transformer
from students.structure.hidden import hidden_units
from students.structure.tensor_train import TensorTrainEmbedding, embedding_matrix, tensor_train_shape, tensor_train_svd
from students.tokenizer.vocabulary import select_vocabulary
from tests.helpers.families import batch, tiny
from tests.helpers.repositories import save_tokenizer


def filled(table: torch.Tensor, shape: dict[str, list[int]]) -> TensorTrainEmbedding:
    train = TensorTrainEmbedding(shape)
    for core, numbers in zip(train.cores, tensor_train_svd(table, shape), strict=True):
        core.weight.data.copy_(numbers)
    return train


def test_a_row_is_the_product_of_its_cores():
    shape = {"vocab_factors": [2, 3, 4], "width_factors": [2, 2, 3], "ranks": [3, 5]}
    train = TensorTrainEmbedding(shape)
    first, second, third = (core.weight.detach().double() for core in train.cores)
    first, second, third = first.view(2, 2, 3), second.view(3, 3, 2, 5), third.view(4, 5, 3)
    actual = train(torch.arange(24)).detach()
    for word, (i, j, k) in enumerate(itertools.product(range(2), range(3), range(4))):
        for place, (a, b, c) in enumerate(itertools.product(range(2), range(2), range(3))):
            expected = sum(first[i, a, p] * second[j, p, b, q] * third[k, q, c] for p in range(3) for q in range(5))
            assert actual[word, place] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(("words", "width"), [(100, 32), (97, 30), (30522, 384), (50257, 768), (24, 8)])
def test_its_sizes_hold_the_table_and_hardly_more(words, width):
    shape = tensor_train_shape(words, width, 16)
    assert torch.tensor(shape["width_factors"]).prod() == width and min(shape["width_factors"]) > 1
    assert words <= torch.tensor(shape["vocab_factors"]).prod() < 1.3 * words + 10
    assert all(1 <= rank <= 16 for rank in shape["ranks"])


def test_of_full_rank_it_is_the_table():
    table = torch.randn(97, 30, generator=torch.Generator().manual_seed(0))
    train = filled(table, tensor_train_shape(97, 30, 10**6))
    torch.testing.assert_close(train(torch.arange(97)), table, rtol=1e-4, atol=1e-5)
    sizes = [float(core.weight.square().mean().sqrt()) for core in train.cores]
    assert max(sizes) < 1.01 * min(sizes)
    assert train(torch.arange(6).view(2, 3)).shape == (2, 3, 30)


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_what_is_lost_is_what_was_cut_off(rank):
    """At most the squares of the singular values left out of the two unfoldings, and no less than of either."""
    table = torch.randn(96, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shape = {"vocab_factors": [4, 4, 6], "width_factors": [2, 3, 4], "ranks": [min(rank, 8), rank]}
    modes = table.view(4, 4, 6, 2, 3, 4).permute(0, 3, 1, 4, 2, 5)
    tails = [
        float(torch.linalg.svdvals(modes.reshape(rows, -1))[kept:].square().sum())
        for rows, kept in zip((8, 96), shape["ranks"], strict=True)
    ]
    lost = float((filled(table, shape)(torch.arange(96)).double() - table).square().sum())
    assert max(tails) * (1 - 1e-5) <= lost <= sum(tails) * (1 + 1e-5) + 1e-6


@pytest.mark.slow  # test_int8_students.py exports such a model
def test_its_file_for_onnxruntime_gives_the_same(tmp_path):
    model = Transformer(embeddings=TensorTrain(rank=4)).build(tiny("bert", layers=1), None, None).eval()
    export_onnx(model, batch("bert", size=2), tmp_path / "x.onnx")
    wider = batch("bert", size=3, length=11)
    expected = model(**{key: value for key, value in wider.items() if key != "labels"}).logits
    torch.testing.assert_close(OnnxModel(tmp_path / "x.onnx")(wider), expected.detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", [Factorised(), TensorTrain(rank=4)], ids=["ranks", "train"])
def test_a_recurrent_student_starts_from_any_embeddings(form):
    teacher = Transformer(embeddings=form).build(tiny("bert"), None, None)
    student = LSTM(hidden=4).build(teacher, None, None)
    torch.testing.assert_close(student.get_input_embeddings().weight, embedding_matrix(teacher))
    assert embedding_matrix(teacher).shape == (100, 32)


def test_what_cannot_be_is_told():
    with pytest.raises(ValueError, match="^rank: at least 1 is needed, not 0"):
        TensorTrain(rank=0)
    with pytest.raises(ValueError, match="^embeddings: rank: 4000 makes the token embeddings no smaller"):
        Transformer(embeddings=TensorTrain(rank=4000)).build(tiny("bert"), None, None)
    with pytest.raises(ValueError, match="^embeddings: the token embeddings are tied to the LM head"):
        Transformer(embeddings=TensorTrain(rank=4)).build(tiny("gpt2", head="language"), None, None)
    with pytest.raises(ValueError, match="^an embedding width of 7 is no product of three"):
        tensor_train_shape(100, 7, 4)
    model = Transformer(embeddings=TensorTrain(rank=4)).build(tiny("bert"), None, None)
    with pytest.raises(
        ValueError, match="^shape: hidden dimensions cannot be pruned, since the token embeddings are no matrix"
    ):
        hidden_units(model)


def test_its_vocabulary_is_not_cut(tmp_path):
    save_tokenizer(tmp_path)
    model = Transformer(embeddings=TensorTrain(rank=4)).build(tiny("bert"), None, None)
    with pytest.raises(ValueError, match="the token embeddings are no matrix"):
        select_vocabulary(AutoTokenizer.from_pretrained(tmp_path), {5, 6}, model)
