"""A static student starts from what a teacher of any family makes of single tokens."""

import numpy
import pytest
import torch
from transformers import AutoModelForTokenClassification

from students.kinds.static import Static, frequency_weights, principal_components, token_vectors
from students.kinds.transformer import Transformer
from tests.helpers.families import tiny

BATCH = {
    "input_ids": torch.tensor([[1, 2, 2, 3], [1, 2, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
}


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "electra", "llama"])
def test_embeddings_are_the_principal_components_of_the_teachers_token_vectors(name):
    teacher = tiny(name)
    table = Static(width=5).build(teacher, None, None).get_input_embeddings().weight.detach().double().numpy()
    vectors = token_vectors(teacher).double().numpy()
    assert vectors.shape == (100, 32)
    left, sizes, _ = numpy.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    expected = left[:, :5] * sizes[:5]
    numpy.testing.assert_allclose(table @ table.T, expected @ expected.T, rtol=1e-4, atol=1e-4)


def test_token_vectors_are_those_of_texts_of_one_token():
    teacher = tiny("bert")
    expected = teacher.bert(input_ids=torch.tensor([[7]])).last_hidden_state[0, 0]
    torch.testing.assert_close(token_vectors(teacher)[7], expected)


def test_components_of_all_directions_keep_distances_and_have_no_mean():
    vectors = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    components = principal_components(vectors, 4)
    torch.testing.assert_close(torch.cdist(components, components), torch.cdist(vectors, vectors), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(components.mean(0), torch.zeros(4), rtol=0, atol=1e-6)
    assert torch.equal(components, principal_components(vectors.clone(), 4))


def test_frequent_tokens_are_short_and_padding_is_not_counted():
    plain = Static(width=5).build(tiny("bert"), None, None).get_input_embeddings().weight
    weighted = Static(width=5).build(tiny("bert"), None, None, batches=[BATCH]).get_input_embeddings().weight
    ratio = (weighted / plain).mean(1)
    expected = torch.ones(100)
    expected[1], expected[2], expected[3] = (1e-3 / (1e-3 + count / 6) for count in (2, 3, 1))
    torch.testing.assert_close(ratio, expected, rtol=1e-5, atol=1e-6)
    assert frequency_weights(torch.zeros(3, dtype=torch.long)).tolist() == [1, 1, 1]


def test_at_random_it_may_be_wider_than_the_teacher():
    student = Static(width=40, hidden=0, weights="random").build(tiny("bert"), None, None, batches=[BATCH])
    assert student.get_input_embeddings().weight.shape == (100, 40)
    assert student.get_input_embeddings().weight.detach().std() == pytest.approx(0.1, rel=0.1)
    assert student.config.num_labels == 3 and student.training


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Static(width=0), "width: at least 1"),
        (lambda: Static(hidden=-1), "hidden: at least 0"),
        (lambda: Static(dropout=1.0), "dropout: must be a probability"),
        (lambda: Static(weights="hub"), "weights: 'teacher' or 'random'"),
        (lambda: Static().check(None), "Static student has its teacher's vocabulary"),
        (lambda: Static(width=33).check(tiny("bert").config), "width: the teacher's states are 32 wide, not 33"),
        (
            lambda: Static(width=4).build(tiny("bert"), None, None, AutoModelForTokenClassification),
            "kind: of a Static student there is no TokenClassification",
        ),
        (
            lambda: Transformer().check(Static(width=4).build(tiny("bert"), None, None).config),
            "a Transformer student cannot be cut from a static model",
        ),
    ],
)
def test_what_cannot_be_built_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
