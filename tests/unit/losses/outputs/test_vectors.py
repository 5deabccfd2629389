"""Losses on vectors: against float64 arithmetic of their own, their zeros, their invariances, their gradients."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig

from losses.loss import LossValues
from losses.outputs.vectors import SimilarityKL, VectorCosine, VectorLoss, VectorMSE, similarity_kl
from students.recording.signals import Trace

WIDE, NARROW = BertConfig(hidden_size=12, num_attention_heads=2), BertConfig(hidden_size=8, num_attention_heads=2)
VALUES = LossValues(0, {"weight": 1.0})


def draw(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def value(loss: VectorLoss, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The sum of a loss over texts with these vectors."""
    batch = {
        "input_ids": torch.ones(len(student), 3, dtype=torch.long),
        "labels": torch.full((len(student),), torch.nan),
    }
    total, count = loss(*(Trace(vectors, {}, {}, {}) for vectors in (student, teacher)), batch, VALUES)
    assert count == len(student) == loss.count(batch)
    return total


def ready(loss: VectorLoss, student: BertConfig = WIDE, teacher: BertConfig = WIDE) -> VectorLoss:
    torch.manual_seed(0)
    loss.setup(student, teacher)
    return loss


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


def test_mse_and_cosine_are_those_of_float64():
    student, teacher = draw(5, 12), draw(5, 12, seed=1)
    s, t = student.double().numpy(), teacher.double().numpy()
    assert float(value(ready(VectorMSE()), student, teacher)) == pytest.approx(((s - t) ** 2).sum(), rel=1e-6)
    expected = sum(1 - cosine(*pair) for pair in zip(s, t, strict=True))
    assert float(value(ready(VectorCosine()), student, teacher)) == pytest.approx(expected, rel=1e-6)


def test_similarity_kl_is_that_of_float64():
    student, teacher, temperature = draw(6, 8), draw(6, 12, seed=1), 0.2
    s, t = student.double().numpy(), teacher.double().numpy()
    expected = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        scores = [np.array([cosine(v[i], v[j]) for j in others]) / temperature for v in (t, s)]
        p, q = (np.exp(row) / np.exp(row).sum() for row in scores)
        expected.append((p * np.log(p / q)).sum())
    np.testing.assert_allclose(similarity_kl(student, teacher, temperature).numpy(), expected, rtol=2e-5)
    loss = ready(SimilarityKL(temperature=temperature), NARROW)
    assert float(value(loss, student, teacher)) == pytest.approx(sum(expected), rel=1e-5)


@pytest.mark.parametrize("loss", [VectorMSE(), VectorCosine(), SimilarityKL()])
def test_equal_vectors_cost_nothing_and_others_something(loss):
    vectors = draw(5, 12)
    ready(loss)
    assert float(value(loss, vectors, vectors.clone())) == pytest.approx(0, abs=1e-5)
    assert float(value(loss, vectors, draw(5, 12, seed=3))) > 0.1


def test_similarities_do_not_change_if_all_vectors_turn_or_grow():
    teacher, student = draw(6, 12), draw(6, 12, seed=1)
    turn = torch.linalg.qr(draw(12, 12, seed=2)).Q
    turned = student @ turn * 3
    torch.testing.assert_close(similarity_kl(turned, teacher), similarity_kl(student, teacher), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_two_texts_have_no_distribution_over_others(count):
    student = draw(count, 12).requires_grad_()
    losses = similarity_kl(student, draw(count, 12, seed=1))
    assert losses.shape == (count,) and not losses.any()
    losses.sum().backward()  # of the part of a batch that a process has


def test_losses_of_single_texts_do_not_depend_on_the_batch():
    student, teacher = draw(6, 12), draw(6, 12, seed=1)
    for loss in (ready(VectorMSE()), ready(VectorCosine())):
        whole = value(loss, student, teacher)
        parts = value(loss, student[:2], teacher[:2]) + value(loss, student[2:], teacher[2:])
        torch.testing.assert_close(whole, parts)


def test_a_projection_makes_widths_equal_and_is_left_out_where_they_are():
    loss = ready(VectorCosine(), NARROW, WIDE)
    assert loss.projections["8"].weight.shape == (12, 8)
    student, teacher = draw(5, 8), draw(5, 12, seed=1)
    projected = loss.projections["8"](student)
    expected = (1 - F.cosine_similarity(projected, teacher, dim=-1)).sum()
    torch.testing.assert_close(value(loss, student, teacher), expected)
    assert not list(ready(VectorCosine()).parameters())
    assert list(ready(VectorCosine(project=True)).parameters())


def test_the_first_numbers_are_compared_for_each_width():
    student, teacher = draw(5, 12), draw(5, 12, seed=1)
    loss = ready(SimilarityKL(dims=[4, 12]))
    expected = (similarity_kl(student[:, :4], teacher) + similarity_kl(student, teacher)).sum() / 2
    torch.testing.assert_close(value(loss, student, teacher), expected)
    loss = ready(VectorMSE(dims=[12, 4]))
    assert [type(module).__name__ for module in loss.projections.values()] == ["Identity", "Linear"]
    assert value(loss, student, teacher) > 0


@pytest.mark.parametrize("loss", [VectorMSE(), VectorCosine(), SimilarityKL()])
def test_gradients_are_those_of_differences(loss):
    ready(loss)
    student, teacher = draw(4, 12).requires_grad_(), draw(4, 12, seed=1)
    (gradient,) = torch.autograd.grad(value(loss, student, teacher), student)
    step = torch.zeros_like(student)
    step[1, 2] = 1e-2
    with torch.no_grad():
        slope = (value(loss, student + step, teacher) - value(loss, student - step, teacher)) / 2e-2
    assert float(gradient[1, 2]) == pytest.approx(float(slope), rel=2e-2, abs=1e-3)


@pytest.mark.parametrize("dims", [[], [4, 4], [0]])
def test_wrong_widths_are_refused(dims):
    with pytest.raises(ValueError, match="dims: different widths of at least 1"):
        VectorMSE(dims=dims)


def test_a_width_that_vectors_do_not_have_is_refused():
    with pytest.raises(ValueError, match="dims: the student's vectors have 8 numbers, not 12"):
        SimilarityKL(dims=[12]).setup(NARROW, WIDE)
    with pytest.raises(ValueError, match="compares with a teacher, and the run has none"):
        VectorMSE().setup(WIDE, None)
    with pytest.raises(ValueError, match="temperature: must be a number above 0"):
        SimilarityKL(temperature=0.0)
