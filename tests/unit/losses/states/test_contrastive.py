"""The contrastive loss, against a loop in float64."""

import math

import pytest
import torch

from losses.states.contrastive import Contrastive, info_nce
from tests.helpers.families import batch
from tests.helpers.traces import DRAW, cosine, first, look, pair, projected, set_up


def test_contrast_against_a_loop():
    student, teacher = torch.randn(2, 5, 4, generator=DRAW, dtype=torch.float64)
    actual = info_nce(student, teacher, 0.2)
    for i in range(5):
        scores = [math.exp(cosine(student[i].numpy(), t.numpy()) / 0.2) for t in teacher]
        assert float(actual[i]) == pytest.approx(-math.log(scores[i] / sum(scores)), rel=1e-4)
    assert info_nce(torch.ones(5, 4), teacher)[0] > 0 and info_nce(student[:1], teacher[:1]) == 0
    torch.testing.assert_close(info_nce(teacher, torch.ones(5, 4)), torch.full((5,), math.log(5)))


@pytest.mark.parametrize("positions", ["first", "mean"])
def test_contrast_sums_over_examples_and_teaches(positions):
    student, teacher, data = *pair("bert"), batch("bert")
    loss = set_up(Contrastive(temperature=0.3, pooling=positions), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    sizes = [1 if positions == "first" else n for n in data["attention_mask"].sum(1).tolist()]
    student_states, teacher_states = (
        student_trace.hidden["encoder", 2].detach().double(),
        teacher_trace.hidden["encoder", 4].detach().double(),
    )
    states = [projected(loss, 2, student_states[row, :n].mean(0)).numpy() for row, n in enumerate(sizes)]
    targets = [teacher_states[row, :n].mean(0).numpy() for row, n in enumerate(sizes)]
    scores = [[math.exp(cosine(state, target) / 0.3) for target in targets] for state in states]
    expected = sum(-math.log(row[i] / sum(row)) for i, row in enumerate(scores))
    value, count = loss(student_trace, teacher_trace, data, first(loss))
    value.backward()
    assert float(value.detach()) == pytest.approx(expected, rel=1e-4) and count == loss.count(data) == 3
    assert all(parameter.grad.any() for parameter in loss.parameters())
    (state,) = student_trace.hidden.values()
    assert not state.grad[data["attention_mask"] == 0].any()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_wrong_temperature(temperature):
    with pytest.raises(ValueError, match="^temperature: must be a number above 0"):
        Contrastive(temperature=temperature)
