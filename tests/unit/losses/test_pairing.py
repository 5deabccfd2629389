"""Pairings that are drawn or found: against brute force, and what the losses make of them."""

from itertools import permutations

import pytest
import torch

from losses.pairing import Pairing, nearest, transport
from losses.pairs.attention import AttentionScores
from losses.states.hidden import HiddenMSE, PatientHidden, hidden_mse
from prune_schedules.schedule import Timeline
from tests.helpers.families import batch, tiny
from tests.helpers.traces import first, look, pair, set_up, traced


def costs(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_nearest_is_the_least_of_each_column():
    actual = nearest(torch.tensor([[3.0, 1.0, 2.0], [1.0, 5.0, 7.0]]))
    assert actual.tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_between_equal_depths_the_plan_is_the_best_permutation(seed):
    table = costs(4, 4, seed)
    best = min(sum(float(table[i, j]) for i, j in enumerate(order)) for order in permutations(range(4)))
    plan = transport(table)
    assert float((plan * table).sum()) == pytest.approx(best, rel=1e-5)
    assert set(plan.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("rows, columns", [(2, 4), (4, 12), (3, 2)])
def test_a_plan_gives_every_layer_its_share_and_beats_an_even_one(rows, columns):
    table = costs(rows, columns)
    plan = transport(table)
    torch.testing.assert_close(plan.sum(1), torch.ones(rows))
    torch.testing.assert_close(plan.sum(0), torch.full((columns,), rows / columns))
    assert (plan >= 0).all() and (plan * table).sum() < table.mean() * rows


def test_drawn_pairs_are_sorted_inner_blocks_and_change_with_the_epoch():
    pairing, targets = Pairing("random", 4, 12), set()
    for epoch in range(50):
        student_layers, teacher_layers = zip(*pairing.at(epoch).pairs, strict=True)
        assert (
            student_layers == (1, 2, 3)
            and list(teacher_layers) == sorted(set(teacher_layers))
            and set(teacher_layers) <= set(range(1, 12))
        )
        targets.add(teacher_layers)
    assert len(targets) > 20
    assert pairing.pairs == pairing.at(0).pairs == Pairing("random", 4, 12).pairs


@pytest.mark.parametrize(
    "layers, student, teacher, message",
    [
        ("random", 1, 4, "'random' needs a student of at least 2 blocks"),
        ("random", 5, 4, "student 5 blocks, teacher 4 blocks"),
        ("nearest", 5, 4, "student 5 blocks, teacher 4 blocks"),
    ],
)
def test_depths_that_do_not_go(layers, student, teacher, message):
    with pytest.raises(ValueError, match=rf"^layers: .*{message}"):
        Pairing(layers, student, teacher)


@pytest.mark.parametrize("layers", ["random", "nearest", "transport"])
@pytest.mark.parametrize("kind", [HiddenMSE, AttentionScores])
def test_a_loss_asks_for_the_layers_it_compares(layers, kind):
    student, teacher, data = *pair("bert"), batch("bert")
    loss = set_up(kind(layers=layers), student, teacher)
    values = loss.at(7, Timeline(10, 5))
    student_trace, teacher_trace = (
        traced(model, needs, data) for model, needs in zip((student, teacher), loss.signals_at(values), strict=True)
    )
    value, count = loss(student_trace, teacher_trace, data, values)
    value.backward()
    assert value > 0 and count == data["attention_mask"].sum()
    actual = getattr(teacher_trace, loss.signal)
    assert {layer for _, layer in actual} == {
        "random": {loss.pairing.at(1).pairs[0][1]},
        "nearest": {2, 4},
        "transport": {1, 2, 3, 4},
    }[layers]


@pytest.mark.parametrize("layers", ["nearest", "transport"])
def test_found_pairs_cost_nothing_between_equals_and_no_more_than_fixed_ones(layers):
    model, (student, teacher), data = tiny("bert", layers=2), pair("bert", 32), batch("bert")
    same = set_up(HiddenMSE(layers=layers), model, model)
    assert float(same(*look(same, model, model, data), data, first(same))[0].detach()) < 1e-6
    actual, fixed = (set_up(HiddenMSE(layers=rule), student, teacher) for rule in (layers, {1: 2, 2: 4}))
    values = [
        float(loss(*look(loss, student, teacher, data), data, first(loss))[0].detach()) for loss in (actual, fixed)
    ]
    if layers == "nearest":
        assert values[0] <= values[1]
    student_trace, teacher_trace = look(actual, student, teacher, data)
    valid = data["attention_mask"].bool()
    table = torch.stack(
        [
            hidden_mse(student_trace.hidden["encoder", s][valid], teacher_trace.hidden["encoder", t][valid]).sum()
            for s, t in actual.pairing.pairs
        ]
    ).view(2, -1)
    weights = {"nearest": nearest, "transport": transport}[layers](table)
    assert values[0] == pytest.approx(float((weights * table).sum().detach()), rel=1e-5)


def test_rail_kd_looks_at_one_teacher_layer_less_where_fewer_are_drawn():
    loss = set_up(PatientHidden(layers="random", pooling="mean"), *pair("bert"))
    assert len(loss.teacher_signals.hidden) == len(loss.student_signals.hidden) == 1
