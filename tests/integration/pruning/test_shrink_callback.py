"""Units leave the tensors in a run of the callback: resumed, wrapped, copied, and as with masks."""

import copy

import pytest

from prune_schedules.callback import Prune
from prune_schedules.schedule import Cubic, TimePoint
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.targets.mask import Mask
from students.structure.units import heads, neurons
from students.weights import find_weight_transforms
from tests.helpers.pruning.runs import fit, fit_on, resume
from tests.helpers.pruning.shapes import BRANCHES, SHAPES


def with_branches(cuts: bool = True) -> Prune:
    """The same, and half of the branches until 9."""
    prune = three_shapes(cuts)
    window = {"start": TimePoint("3 steps"), "stop": TimePoint("9 steps")}
    prune.pruners["layers"] = Magnitude(sparsity=Cubic(to=0.5, **window), shape="layers")
    return Prune(prune.pruners, dict.fromkeys(BRANCHES, 0) if cuts else {})


def three_shapes(cuts: bool = True) -> Prune:
    """12 steps: elements and neurons until 8, heads until 10."""
    window = {"start": TimePoint("3 steps"), "stop": TimePoint("8 steps")}
    later = {"start": TimePoint("3 steps"), "stop": TimePoint("10 steps")}
    pruners = {
        "entries": Magnitude(sparsity=Cubic(to=0.6, **window), where=["ffn"], every=TimePoint("2 steps")),
        "neurons": Magnitude(sparsity=Cubic(to=0.5, **window), shape="neurons", scope="global"),
        "heads": Magnitude(sparsity=Cubic(to=0.5, **later), shape="heads", scope="global"),
    }
    return Prune(pruners, dict.fromkeys(SHAPES, 0) if cuts else {})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    prune = three_shapes()
    return fit(tmp_path_factory.mktemp("run"), prune), prune


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", [5, 7, 8, 9, 10, 11])
def test_a_resumed_run_is_the_run_bit_for_bit(uninterrupted, tmp_path, start):
    (expected, prune), again = uninterrupted, three_shapes()
    resume(expected, tmp_path, again, start)
    assert again.sparsity == prune.sparsity == again.curves["sparsity"] == prune.curves["sparsity"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", [8, 9, 10, 11])
def test_a_run_without_its_branches_resumes_bit_for_bit(tmp_path, start):
    prune, again = with_branches(), with_branches()
    expected = fit(tmp_path / "whole", prune)
    assert 0 in {units.count for units in neurons(expected.student) + heads(expected.student)}
    resume(expected, tmp_path, again, start)
    assert again.sparsity == prune.sparsity == again.curves["sparsity"]


@pytest.mark.filterwarnings("ignore")
def test_the_callback_cuts_at_the_end_of_each_window_and_the_losses_are_those_with_masks(uninterrupted, tmp_path):
    (expected, prune), kept = uninterrupted, three_shapes(cuts=False)
    masked = fit(tmp_path, kept)
    # Dropout of attention draws for each head: from the first step without them, it is another draw.
    assert expected.seen[:10] == pytest.approx(masked.seen[:10], abs=1e-5)
    assert prune.sparsity == kept.sparsity and len(find_weight_transforms(expected, Mask)) < len(
        find_weight_transforms(masked, Mask)
    )
    counts = {}
    for step in (7, 8, 9, 10):
        state = expected.saved(step)["state_dict"]
        shapes = {name.replace("parametrizations.", "").replace(".original", ""): v.shape for name, v in state.items()}
        layers = [f"student.bert.encoder.layer.{i}" for i in (0, 1)]
        counts[step] = tuple(
            sum(shapes[f"{layer}.{part}.weight"][0] for layer in layers)
            for part in ("intermediate.dense", "attention.self.query")
        )
    assert counts == {7: (128, 64), 8: (64, 64), 9: (64, 64), 10: (64, 32)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_of_one")
def test_a_wrapped_student_keeps_its_masks(tmp_path):
    prune, again = three_shapes(), three_shapes()
    module = fit(tmp_path, prune, 11, strategy="ddp")
    assert {units.count for units in neurons(module.student)} == {64}
    assert {units.count for units in heads(module.student)} == {4}
    resumed = fit(tmp_path, again, start=11)  # in one process it keeps them too, for there is a best state with masks
    assert {units.count for units in neurons(resumed.student)} == {64} and again.sparsity == prune.sparsity


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_of_one")
def test_a_cut_student_can_be_wrapped_later(uninterrupted, tmp_path):
    (expected, prune), again = uninterrupted, three_shapes()
    resumed = fit_on(expected, tmp_path, again, 9, strategy="ddp")
    assert sum(units.count for units in neurons(resumed.student)) == 64 and len(resumed.seen) == 3
    assert {units.count for units in heads(resumed.student)} == {4} and again.sparsity == prune.sparsity
    assert resumed.seen[0] == expected.seen[9]


@pytest.mark.filterwarnings("ignore")
def test_the_student_can_be_copied_and_loaded_after_the_run(uninterrupted):
    expected, _ = uninterrupted
    twin = copy.deepcopy(expected.student)
    assert not expected.student._load_state_dict_pre_hooks
    twin.load_state_dict(expected.student.state_dict())
