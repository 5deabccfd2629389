"""Layer pairs: every rule by hand, the errors, and what holds for all depths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from students.families.layers import evenly_spaced_layer, layer_pairs


@pytest.mark.parametrize(
    "rule, expected",
    [
        ("uniform", [(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)]),
        ("skip", [(1, 3), (2, 6), (3, 9)]),
        ("first", [(1, 1), (2, 2), (3, 3), (4, 4)]),
        ("last", [(1, 9), (2, 10), (3, 11), (4, 12)]),
        ("top", [(4, 12)]),
        ({4: 12, 0: 0}, [(0, 0), (4, 12)]),
    ],
)
def test_rule(rule, expected):
    assert layer_pairs(rule, 4, 12) == expected


def test_uniform_rounds_half_up():
    assert layer_pairs("uniform", 4, 6) == [(0, 0), (1, 2), (2, 3), (3, 5), (4, 6)]


def test_blocks_only_leaves_out_the_embeddings():
    assert layer_pairs("uniform", 2, 4, blocks_only=True) == [(1, 2), (2, 4)]
    with pytest.raises(ValueError, match=r"^layers: the student has layers 1 to 2, not 0"):
        layer_pairs({0: 0}, 2, 4, blocks_only=True)


@pytest.mark.parametrize("rule", ["uniform", "skip", "first", "last"])
def test_a_deeper_student_is_refused_with_both_depths(rule):
    with pytest.raises(ValueError, match=r"^layers: .*student 6 blocks, teacher 4 blocks"):
        layer_pairs(rule, 6, 4)


def test_a_deeper_student_may_be_paired_at_the_top_or_by_name():
    assert layer_pairs("top", 6, 4) == [(6, 4)]
    assert layer_pairs({6: 4, 3: 2}, 6, 4) == [(3, 2), (6, 4)]


@pytest.mark.parametrize(
    "mapping, side",
    [
        ({5: 1}, "student"),
        ({1: 13}, "teacher"),
        ({-1: 0}, "student"),
        ({1: -1}, "teacher"),
    ],
)
def test_a_layer_outside_its_model_is_refused_with_both_depths(mapping, side):
    with pytest.raises(ValueError, match=rf"^layers: the {side} has layers .*student 4 .*teacher 12 blocks"):
        layer_pairs(mapping, 4, 12)


def test_no_pair_is_refused():
    with pytest.raises(ValueError, match=r"^layers: 'skip' leaves no pair"):
        layer_pairs("skip", 1, 12)


@given(st.integers(1, 100).flatmap(lambda teacher: st.tuples(st.integers(1, teacher), st.just(teacher))))
def test_uniform_rises_strictly_from_the_embeddings_to_the_last_blocks(depths):
    student, teacher = depths
    actual = layer_pairs("uniform", student, teacher)
    layers = [layer for _, layer in actual]
    assert [layer for layer, _ in actual] == list(range(student + 1))
    assert actual[0] == (0, 0) and actual[-1] == (student, teacher)
    assert layers == sorted(set(layers))


@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_evenly_is_the_nearest_layer(student, teacher, data):
    i = data.draw(st.integers(0, student))
    assert abs(evenly_spaced_layer(i, student, teacher) - i * teacher / student) <= 0.5
