"""The loss on the flow of states, against a loop in float64."""

import numpy as np
import pytest
import torch

from losses.states.flow import Flow, flow
from tests.helpers.families import batch
from tests.helpers.traces import DRAW, first, look, pair, projected, set_up


def test_flow_against_a_loop():
    first, second = torch.randn(2, 3, 5, 4, generator=DRAW, dtype=torch.float64)
    sizes = [5, 2, 1]
    actual = flow(first, second, torch.arange(5) < torch.tensor(sizes)[:, None])
    for b, n in enumerate(sizes):
        expected = sum(np.outer(first[b, i], second[b, i]) for i in range(n)) / n
        np.testing.assert_allclose(actual[b], expected, rtol=1e-5, atol=1e-6)


def test_the_flow_of_two_models_against_a_loop():
    student, teacher, data = *pair("bert"), batch("bert")
    loss = set_up(Flow(layers={0: 0, 1: 2, 2: 4}), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    student_states = {s: projected(loss, s, student_trace.hidden["encoder", s]).numpy() for s in (0, 1, 2)}
    teacher_states = {t: teacher_trace.hidden["encoder", t].detach().double().numpy() for t in (0, 2, 4)}
    expected = 0.0
    for row, n in enumerate(data["attention_mask"].sum(1).tolist()):
        for (s, t), (after, teacher_after) in (((0, 0), (1, 2)), ((1, 2), (2, 4))):
            ours = sum(np.outer(student_states[s][row, i], student_states[after][row, i]) for i in range(n)) / n
            other = (
                sum(np.outer(teacher_states[t][row, i], teacher_states[teacher_after][row, i]) for i in range(n)) / n
            )
            expected += ((ours - other) ** 2).mean()
    value, count = loss(student_trace, teacher_trace, data, first(loss))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-4) and count == 3


@pytest.mark.parametrize("layers", ["top", "nearest", {1: 2}])
def test_a_flow_needs_two_layers_in_a_row(layers):
    with pytest.raises(ValueError, match=r"^layers: a flow needs two or more pairs in order"):
        set_up(Flow(layers=layers), *pair("bert"))
