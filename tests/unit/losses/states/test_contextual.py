"""The losses that relate states to one another, against loops in float64."""

from itertools import combinations

import numpy as np
import pytest
import torch

from losses.states.contextual import Contextual, contextual
from losses.states.hidden import HiddenMSE, attention_mixture
from tests.helpers.families import batch, tiny
from tests.helpers.traces import DRAW, cosine, first, look, pair, set_up


def reference(student: np.ndarray, teacher: np.ndarray) -> list[float]:
    """What each of n items adds, of [n, H_S] and [n, H_T]: mean over the others, and over near triples."""
    n, actual = len(student), []
    for i in range(n):
        others = [(cosine(student[i], student[j]) - cosine(teacher[i], teacher[j])) ** 2 for j in range(n) if j != i]
        near = [j for j in range(max(0, i - 2), min(n, i + 3)) if j != i]
        around = [[x[j] - x[i] for j in near] for x in (student, teacher)]
        angles = [[cosine(e, f) for e, f in combinations(edges, 2)] for edges in around]
        triples = [(a - b) ** 2 for a, b in zip(*angles, strict=True)]
        actual.append(sum(others) / max(len(others), 1) + sum(triples) / max(len(triples), 1))
    return actual


@pytest.mark.parametrize("sizes", [[6, 3], [1, 2]])
def test_pairs_and_triples_against_a_loop(sizes):
    student, teacher = torch.randn(2, 6, 5, generator=DRAW), torch.randn(2, 6, 9, generator=DRAW)
    present = torch.arange(6) < torch.tensor(sizes)[:, None]
    actual = contextual(student, teacher, present)
    for row, size in enumerate(sizes):
        expected = reference(student[row, :size].double().numpy(), teacher[row, :size].double().numpy())
        np.testing.assert_allclose(actual[row, :size], expected, rtol=1e-4, atol=1e-6)
        assert not actual[row, size:].any()


@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-5, 1e-4])
@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
def test_items_that_are_one_and_the_same_have_no_angle(whose, gap):
    states = torch.randn(2, 1, 6, 8, generator=DRAW)
    far = {"student": states[0].clone(), "teacher": states[1].clone()}
    near = {name: state.clone() for name, state in far.items()}
    for name in near if whose == "both" else [whose]:
        near[name][:, 2] = near[name][:, 1] + gap * torch.randn(8, generator=DRAW)
    sizes = []
    for items in (far, near):
        student = items["student"].requires_grad_()
        contextual(student, items["teacher"], torch.ones(1, 6).bool()).sum().backward()
        sizes.append(float(student.grad.norm()))
    assert sizes[1] < 3 * sizes[0]


def test_a_triple_without_an_angle_adds_nothing():
    student, teacher = torch.randn(2, 3, 4, generator=DRAW)
    student[1] = student[0]  # of the three triples the one at the last item is left, between two equal edges
    student_states, teacher_states = student.numpy(), teacher.numpy()
    gaps = {
        pair: (cosine(*student_states[list(pair)]) - cosine(*teacher_states[list(pair)])) ** 2
        for pair in ((0, 1), (0, 2), (1, 2))
    }
    angle = (1 - cosine(*(teacher_states[:2] - teacher_states[2]))) ** 2
    expected = [sum(gap for pair, gap in gaps.items() if item in pair) / 2 + angle * (item == 2) for item in range(3)]
    np.testing.assert_allclose(
        contextual(student[None], teacher[None], torch.ones(1, 3).bool())[0], expected, rtol=1e-4
    )


def test_turning_scaling_and_widening_the_space_changes_nothing():
    states = torch.randn(2, 6, 4, generator=DRAW)
    turn = torch.linalg.qr(torch.randn(7, 4, generator=DRAW))[0]
    assert contextual(states, 3 * states @ turn.T, torch.ones(2, 6).bool()).abs().max() < 1e-5


@pytest.mark.parametrize("over", ["tokens", "layers", "examples"])
def test_what_is_related(over):
    student, teacher, data = *pair("bert"), batch("bert")
    loss = set_up(Contextual(over=over), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    student_states = {layer: state.detach().double().numpy() for (_, layer), state in student_trace.hidden.items()}
    teacher_states = {layer: state.detach().double().numpy() for (_, layer), state in teacher_trace.hidden.items()}
    sizes, pairs = data["attention_mask"].sum(1).tolist(), loss.pairing.pairs
    if over == "tokens":
        expected = [
            sum(reference(student_states[s][b, :n], teacher_states[t][b, :n]))
            for s, t in pairs
            for b, n in enumerate(sizes)
        ]
    elif over == "examples":
        expected = [
            sum(
                reference(
                    *(
                        np.stack([x[b, :n].mean(0) for b, n in enumerate(sizes)])
                        for x in (student_states[s], teacher_states[t])
                    )
                )
            )
            for s, t in pairs
        ]
    else:
        where = [(b, i) for b, n in enumerate(sizes) for i in range(n)]
        items = [
            (np.stack([student_states[s][at] for s, _ in pairs]), np.stack([teacher_states[t][at] for _, t in pairs]))
            for at in where
        ]
        expected = [np.mean(reference(*both)) for both in items]
    value, count = loss(student_trace, teacher_trace, data, first(loss))
    assert float(value.detach()) == pytest.approx(sum(expected), rel=1e-4)
    assert count == loss.count(data) == (3 if over == "examples" else sum(sizes))


def test_a_mixture_weighs_layers_by_likeness():
    state, targets = torch.randn(3, 4, generator=DRAW), torch.randn(5, 3, 4, generator=DRAW)
    actual = attention_mixture(state, targets)
    for n in range(3):
        weights = np.exp([float(state[n] @ targets[t, n]) for t in range(5)])
        expected = sum(w * targets[t, n].numpy() for t, w in enumerate(weights / weights.sum()))
        np.testing.assert_allclose(actual[n], expected, rtol=1e-4, atol=1e-6)


def test_every_block_is_in_the_mixture():
    loss = set_up(HiddenMSE(layers="mixture"), tiny("bert", layers=2), tiny("bert", layers=4))
    assert loss.pairing.student_layers == [1, 2] and loss.pairing.teacher_layers == [1, 2, 3, 4]


@pytest.mark.parametrize("layers", ["top", "nearest", "transport", "random", {1: 2}])
def test_one_layer_is_related_to_none(layers):
    with pytest.raises(ValueError, match=r"^layers: over: layers needs two or more pairs in order"):
        set_up(Contextual(over="layers", layers=layers), *pair("bert"))
