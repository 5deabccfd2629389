"""Runs that mask hidden dimensions beside neurons and heads that are cut on the way: resumed, and wrapped."""

import copy

import pytest
import torch

from prune_schedules.callback import Prune
from prune_schedules.schedule import Cubic, TimePoint
from prune_schedules.scores.gradient import Taylor
from prune_schedules.scores.l0 import L0
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.cut import cut
from prune_schedules.targets.norms import kept_dimensions
from students.structure.units import heads, neurons
from students.weights import fold
from tests.helpers.families import batch
from tests.helpers.pruning.runs import fit, resume

KINDS = [Magnitude, Taylor, L0]


def three_shapes(kind: type) -> Prune:
    """12 steps: hidden dimensions until 7, neurons until 6 and heads until 10; neurons wait for the hidden ones."""
    window = {"start": TimePoint("2 steps"), "stop": TimePoint("7 steps")}
    pruners = {
        "neurons": Magnitude(sparsity=Cubic(to=0.5, stop=TimePoint("6 steps")), shape="neurons"),
        "hidden": kind(sparsity=Cubic(to=0.25, **window), shape="hidden", every=TimePoint("2 steps")),
        "heads": Magnitude(sparsity=Cubic(to=0.5, stop=TimePoint("10 steps")), shape="heads"),
    }
    return Prune(pruners, {"neurons": 0, "heads": 0})


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def uninterrupted(tmp_path_factory, request):
    prune = three_shapes(request.param)
    return request.param, fit(tmp_path_factory.mktemp("run"), prune), prune


@pytest.mark.filterwarnings("ignore")
def test_what_is_cut_on_the_way_and_what_at_the_end(uninterrupted):
    _, expected, prune = uninterrupted
    assert [units.count for units in neurons(expected.student)] == [32, 32]
    assert [units.count for units in heads(expected.student)] == [2, 2]
    assert expected.student.config.hidden_size == 32 and prune.pruners["hidden"].current_sparsity() == 0.25
    sizes = {
        step: expected.saved(step)["state_dict"][
            "student.bert.encoder.layer.0.attention.output.LayerNorm.masked_norm.mask"
        ].sum()
        for step in (2, 7, 12)
    }
    assert sizes == {2: 32, 7: 24, 12: 24}
    model = copy.deepcopy(expected.student).eval()
    masked = model(**batch("bert")).logits
    fold(model)
    torch.testing.assert_close(model(**batch("bert")).logits, masked, rtol=0, atol=1e-5)
    assert cut(model).units["hidden"] == (32, 24)
    torch.testing.assert_close(model(**batch("bert")).logits, masked, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", [4, 8])
def test_a_resumed_run_is_the_run_bit_for_bit(uninterrupted, tmp_path, start):
    kind, expected, _ = uninterrupted
    resume(expected, tmp_path, three_shapes(kind), start)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_of_one")
def test_a_wrapped_student_has_the_same_masks(tmp_path):
    alone = fit(tmp_path / "one", three_shapes(Magnitude), 7)
    wrapped = fit(tmp_path, three_shapes(Magnitude), 7, strategy="ddp")
    assert torch.equal(kept_dimensions(alone.student), kept_dimensions(wrapped.student))
    assert wrapped.seen == pytest.approx(alone.seen, abs=1e-5)
