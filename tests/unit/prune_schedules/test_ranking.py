import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_schedules.ranking import keep_highest, magnitude

# Few distinct values, so that there are many ties.
TENSORS = st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=12), min_size=1, max_size=4)


def test_the_magnitude_of_an_entry_is_its_absolute_value():
    assert torch.equal(magnitude([torch.tensor([[-2e-30], [1.0]])]), torch.tensor([2e-30, 1.0]))


def test_the_magnitude_of_a_unit_is_the_root_mean_square_of_all_that_belongs_to_a_unit():
    torch.manual_seed(0)
    rows, columns, bias = torch.randn(5, 7), torch.randn(3, 5), torch.randn(5)
    together = np.concatenate([part.double().numpy() for part in (rows, columns.T, bias[:, None])], axis=1)
    norms = magnitude([rows, columns.T, bias[:, None]])
    np.testing.assert_allclose(norms.numpy(), np.linalg.norm(together, axis=1) / np.sqrt(11), rtol=1e-6)


@settings(deadline=None)
@given(TENSORS, st.floats(0, 1))
def test_by_layer_exactly_the_lowest_share_of_each_goes(values, share):
    scores = [torch.tensor(row, dtype=torch.float32) for row in values]
    for score, keep in zip(scores, keep_highest(scores, share, "layer"), strict=True):
        assert int((~keep).sum()) == round(share * len(score))
        assert not keep.any() or keep.all() or score[~keep].max() <= score[keep].min()


@settings(deadline=None)
@given(TENSORS, st.floats(0, 1), st.integers(0, 1))
def test_globally_the_ranking_is_that_of_a_stable_sort(values, share, at_least):
    scores = [torch.tensor(row, dtype=torch.float32) for row in values]
    masks = keep_highest(scores, share, "global", at_least)
    everything = [(value, tensor, place) for tensor, row in enumerate(values) for place, value in enumerate(row)]
    for tensor, row in enumerate(values):
        if at_least:
            everything.remove((max(row), tensor, row.index(max(row))))
    total = sum(map(len, values))
    gone = sorted(everything)[: min(round(share * total), total - at_least * len(values))]
    assert {(tensor, place) for _, tensor, place in gone} == {
        (tensor, place) for tensor, keep in enumerate(masks) for place in (~keep).nonzero().flatten().tolist()
    }


def test_by_distribution_each_tensor_is_measured_by_itself():
    scores = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 31.0])]
    plain = [(~keep).nonzero().flatten().tolist() for keep in keep_highest(scores, 0.5, "global")]
    assert plain == [[0, 1, 2], []]
    spread = [score / np.sqrt(np.mean(np.square(score.double().numpy()))) for score in scores]
    order = sorted((float(value), tensor, i) for tensor, row in enumerate(spread) for i, value in enumerate(row))
    masks = keep_highest(scores, 0.5, "distribution")
    gone = {(tensor, i) for tensor, keep in enumerate(masks) for i in (~keep).nonzero().flatten().tolist()}
    assert gone == {(tensor, i) for _, tensor, i in order[:3]} == {(1, 0), (0, 0), (1, 1)}


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=8, max_size=8), min_size=1, max_size=4), st.floats(0, 1))
@pytest.mark.parametrize("scope, width", [("row", 8), (4, 4), (2, 2)])
def test_in_rows_and_groups_exactly_the_lowest_share_of_each_goes(scope, width, values, share):
    scores = torch.tensor(values, dtype=torch.float32)
    (keep,) = keep_highest([scores], share, scope)
    assert keep.shape == scores.shape
    for group, kept in zip(scores.reshape(-1, width), keep.reshape(-1, width), strict=True):
        assert int((~kept).sum()) == round(share * width)
        assert not kept.any() or kept.all() or group[~kept].max() <= group[kept].min()


def test_rows_that_do_not_divide_into_groups_are_refused():
    with pytest.raises(ValueError, match="scope: rows of 6"):
        keep_highest([torch.ones(3, 6)], 0.5, 4)


@settings(deadline=None)
@given(TENSORS, st.floats(0, 1), st.sampled_from(["layer", "global"]))
def test_at_least_one_of_each_stays(values, share, scope):
    scores = [torch.tensor(row, dtype=torch.float32) for row in values]
    assert all(keep.any() for keep in keep_highest(scores, share, scope, min_kept=1))


def test_the_shape_is_that_of_the_scores_and_the_first_of_equals_goes_first():
    (keep,) = keep_highest([torch.ones(2, 3)], 0.5, "layer")
    assert torch.equal(keep, torch.tensor([[False, False, False], [True, True, True]]))


@pytest.mark.parametrize("share", [-0.1, 1.1, 80])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="sparsity: "):
        keep_highest([torch.ones(3)], share, "layer")
