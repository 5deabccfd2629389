"""A recurrent student starts from the token embeddings of any teacher, narrowed."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from students.kinds.recurrent import GRU, LSTM, RNN, reduce_embedding_width
from students.kinds.transformer import Transformer
from tests.helpers.families import tiny
from tests.helpers.students.recurrent import small


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "electra", "albert"])
def test_embeddings_start_as_the_words_of_any_teacher(name):
    teacher = tiny(name)
    table = teacher.get_input_embeddings().weight
    student = LSTM(hidden=4).build(teacher, None, None)
    assert torch.equal(student.get_input_embeddings().weight, table)
    assert student.config.num_labels == 3 and student.training
    assert student.config.pad_token_id == teacher.config.pad_token_id
    narrow = LSTM(hidden=4, embedding=5).build(teacher, None, None).get_input_embeddings().weight
    left, sizes, _ = torch.linalg.svd(table.detach().double(), full_matrices=False)
    expected = (left[:, :5] * sizes[:5]) @ (left[:, :5] * sizes[:5]).T
    torch.testing.assert_close(narrow.double() @ narrow.double().T, expected, rtol=1e-4, atol=1e-5)


def test_narrowed_tables():
    table = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert reduce_embedding_width(table, 4) is table and reduce_embedding_width(table, 9) is table
    mirrored = reduce_embedding_width(table * torch.tensor([1.0, -1.0, 1.0, -1.0]), 2)
    assert torch.equal(
        reduce_embedding_width(table, 2), reduce_embedding_width(table.clone(), 2)
    ) and mirrored.shape == (20, 2)


def test_with_random_weights_embeddings_may_be_wider():
    student = GRU(hidden=4, embedding=40, weights="random").build(tiny("bert"), None, None)
    assert student.get_input_embeddings().weight.shape == (100, 40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(hidden=0), "hidden: at least 1"),
        (lambda: GRU(layers=0), "layers: at least 1"),
        (lambda: GRU(embedding=0), "embedding: at least 1"),
        (lambda: RNN(dropout=1.0), "dropout: must be a probability"),
        (lambda: RNN(weights="hub"), "weights: 'teacher' or 'random'"),
        (lambda: LSTM(hidden=8, projection=8), "projection: from 1 to below the 8 cells, not 8"),
        (lambda: LSTM().check(None), "LSTM student has its teacher's vocabulary"),
        (
            lambda: LSTM(embedding=33).check(tiny("bert").config),
            "embedding: the teacher's embeddings are 32 wide, not 33",
        ),
        (
            lambda: LSTM(bidirectional=True).build(tiny("gpt2", head="language"), None, None, AutoModelForCausalLM),
            "bidirectional: a causal language model reads forward only",
        ),
        (lambda: Transformer().check(small().config), "a Transformer student cannot be cut from a recurrent network"),
    ],
)
def test_what_cannot_be_built_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
