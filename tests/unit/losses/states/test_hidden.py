"""The losses on hidden states: distances against loops in float64, projections, layers."""

import math

import pytest
import torch
from torch import nn

from losses.states.contrastive import Contrastive
from losses.states.hidden import (
    FeatureMap,
    FeatureStatistics,
    HiddenCosine,
    HiddenMSE,
    PatientHidden,
    feature_map,
    feature_statistics,
    hidden_cosine,
    hidden_mse,
    patient_hidden,
    pool,
)
from tests.helpers.families import batch, tiny
from tests.helpers.traces import first, look, pair, set_up, sites

KINDS = {
    HiddenMSE: hidden_mse,
    HiddenCosine: hidden_cosine,
    PatientHidden: patient_hidden,
    FeatureMap: feature_map,
    FeatureStatistics: feature_statistics,
}


def reference(kind: type, s: list[float], t: list[float]) -> float:
    """The distance of two vectors."""
    means = [sum(v) / len(v) for v in (s, t)]
    variances = [sum((x - mean) ** 2 for x in v) / len(v) for v, mean in zip((s, t), means, strict=True)]
    if kind is FeatureStatistics:
        return (means[0] - means[1]) ** 2 + abs(variances[0] - variances[1])
    if kind is FeatureMap:
        normal = [
            [(x - mean) / math.sqrt(variance + 1e-5) for x in v]
            for v, mean, variance in zip((s, t), means, variances, strict=True)
        ]
        return sum((x - y) ** 2 for x, y in zip(*normal, strict=True)) / len(s)
    norms = [math.sqrt(sum(x * x for x in v)) for v in (s, t)]
    if kind is HiddenMSE:
        return sum((x - y) ** 2 for x, y in zip(s, t, strict=True)) / len(s)
    if kind is HiddenCosine:
        return 1 - sum(x * y for x, y in zip(s, t, strict=True)) / (norms[0] * norms[1])
    return sum((x / norms[0] - y / norms[1]) ** 2 for x, y in zip(s, t, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("width", [24, 32])
def test_sum_over_tokens_and_layers(kind, family, width):
    student, teacher = pair(family, width)
    data = batch(family)
    only_first = kind is PatientHidden and family == "bert"
    loss = set_up(kind(layers={0: 1, 2: 3}, pooling="first" if only_first else "tokens"), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    stack = next(iter(student_trace.hidden))[0]
    expected = 0.0
    for projection, (s, t) in zip(loss.projections.values(), ((0, 1), (2, 3)), strict=True):
        states, targets = student_trace.hidden[stack, s].double(), teacher_trace.hidden[stack, t].double()
        if width == 24:
            states = states @ projection.weight.double().T + projection.bias.double()
        for row in range(3):
            tokens = 1 if only_first else int(data["attention_mask"][row].sum())
            for token in range(tokens):
                expected += reference(kind, states[row, token].tolist(), targets[row, token].tolist())
    value, count = loss(student_trace, teacher_trace, data, first(loss))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-4)
    assert count == (3 if only_first else data["attention_mask"].sum())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    s, t = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s.requires_grad_()
    KINDS[kind](s, t).sum().backward()
    for row in range(4):
        for i in range(6):
            up, down = s[row].tolist(), s[row].tolist()
            up[i], down[i] = up[i] + 1e-5, down[i] - 1e-5
            slope = (reference(kind, up, t[row].tolist()) - reference(kind, down, t[row].tolist())) / 2e-5
            assert float(s.grad[row, i]) == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("kind", [HiddenCosine, PatientHidden])
def test_the_length_of_a_state_does_not_count(kind):
    s, t = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(KINDS[kind](7 * s, 0.1 * t), KINDS[kind](s, t))
    torch.testing.assert_close(KINDS[kind](3 * s, s), torch.zeros(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [HiddenMSE, HiddenCosine])
@pytest.mark.parametrize("wrong", [1e30, math.inf, math.nan])
def test_what_stands_at_padding_is_not_even_squared(kind, wrong):
    student, teacher = pair("bert")
    data = batch("bert")
    loss = set_up(kind(layers="top"), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    expected = loss(student_trace, teacher_trace, data, first(loss))[0]
    (state,) = student_trace.hidden.values()
    with torch.no_grad():
        state[data["attention_mask"] == 0] = wrong
    value = loss(student_trace, teacher_trace, data, first(loss))[0]
    value.backward()
    torch.testing.assert_close(value, expected)
    padded = state.grad[data["attention_mask"] == 0]
    assert state.grad.isfinite().all() and not padded.any()


@pytest.mark.parametrize("width, project, learnt", [(24, False, True), (32, False, False), (32, True, True)])
@pytest.mark.parametrize("kind", KINDS)
def test_projections_where_widths_differ_or_are_wished(kind, width, project, learnt):
    student, teacher = pair("bert", width)
    data = batch("bert")
    loss = set_up(kind(layers={1: 2, 2: 4}, project=project), student, teacher)
    shapes = [tuple(parameter.shape) for parameter in loss.parameters()]
    assert shapes == ([(32, width), (32,)] * 2 if learnt else [])
    loss(*look(loss, student, teacher, data), data, first(loss))[0].backward()
    assert all(parameter.grad.any() for parameter in loss.parameters())
    assert nn.ModuleDict({"hidden": loss}).state_dict().keys() == {
        f"hidden.projections.{layer}.{part}" for layer in ((1, 2) if learnt else ()) for part in ("weight", "bias")
    }


@pytest.mark.parametrize(
    "kind, layers",
    [
        (HiddenMSE, [(0, 0), (1, 2), (2, 4)]),
        (HiddenCosine, [(2, 4)]),
        (PatientHidden, [(1, 2)]),
    ],
)
def test_the_layers_of_the_papers(kind, layers):
    loss = set_up(kind(), *pair("bert"))
    assert loss.pairing.pairs == layers
    assert loss.student_signals.hidden == {("encoder", s) for s, _ in layers}
    assert loss.teacher_signals.hidden == {("encoder", t) for _, t in layers}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [{3: 1}, {1: 5}])
def test_a_layer_outside_is_refused_with_both_depths(kind, layers):
    with pytest.raises(ValueError, match=r"^layers: .*student 2 blocks, teacher 4 blocks"):
        set_up(kind(layers=layers), *pair("bert"))


def test_the_stack_of_an_encoder_decoder_is_chosen():
    model = tiny("t5")
    assert sites(set_up(HiddenMSE(layers="top"), model, model)) == [(("encoder", 2), ("encoder", 2))]
    assert sites(set_up(HiddenMSE(layers="top", stack="decoder"), model, model)) == [(("decoder", 2), ("decoder", 2))]
    with pytest.raises(ValueError, match=r"^stack: bert has no 'decoder'"):
        set_up(HiddenMSE(stack="decoder"), *pair("bert"))


@pytest.mark.parametrize("kind", [PatientHidden, HiddenMSE, Contrastive])
def test_a_first_token_that_has_seen_no_other_is_refused(kind):
    message = "^pooling: the first token of a decoder attends to no other; use mean"
    with pytest.raises(ValueError, match=message):
        set_up(kind(pooling="first"), *pair("gpt2"))
    with pytest.raises(ValueError, match=message):
        set_up(kind(pooling="first", stack="decoder", layers="top"), tiny("t5"), tiny("t5"))
    set_up(kind(pooling="mean"), *pair("gpt2"))
    set_up(kind(pooling="first", layers="top"), tiny("t5"), tiny("t5"))


@pytest.mark.parametrize("pooling", ["tokens", "first", "mean"])
def test_positions_against_a_loop(pooling):
    states = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    rows = [states[i, : int(valid[i].sum())] for i in range(3)]
    expected = {
        "tokens": torch.cat(rows),
        "first": torch.stack([row[0] for row in rows]),
        "mean": torch.stack([row.mean(0) for row in rows]),
    }
    torch.testing.assert_close(pool(states, valid, pooling), expected[pooling])


@pytest.mark.parametrize("pooling", ["tokens", "first", "mean"])
def test_every_distance_at_every_position(pooling):
    student, teacher = pair("bert")
    data = batch("bert")
    for kind, distance in KINDS.items():
        loss = set_up(kind(layers={2: 4}, pooling=pooling), student, teacher)
        student_trace, teacher_trace = look(loss, student, teacher, data)
        valid = data["attention_mask"].bool()
        states = loss.projections["2"](pool(student_trace.hidden["encoder", 2], valid, pooling))
        expected = distance(states, pool(teacher_trace.hidden["encoder", 4], valid, pooling))
        value, count = loss(student_trace, teacher_trace, data, first(loss))
        torch.testing.assert_close(value, expected.sum())
        assert count == len(expected)
