"""The share that is masked: met exactly, on its schedule, by every score, and through a run that is interrupted."""

import pytest
import torch
from torch import nn

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Cubic, Steps, Timeline, TimePoint
from prune_schedules.scores.gradient import Fisher, Movement, Taylor
from prune_schedules.scores.magnitude import Magnitude, Random
from prune_schedules.scores.pruner import ScoredPruner
from prune_schedules.scores.sparsegpt import SparseGPT
from prune_schedules.scores.wanda import Wanda
from prune_schedules.targets.mask import Mask
from students.weights import find_weight_transforms, raw_parameter
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.runs import fit, resume

TIMELINE = Timeline(total_steps=100, epoch_steps=10)


def attached(name: str, **fields) -> tuple[nn.Module, Magnitude]:
    model, pruner = tiny(name), Magnitude(**fields)
    pruner.attach(model)
    return model, pruner


def test_the_smallest_go():
    model, pruner = attached("gpt2", sparsity=Constant(0.5))
    pruner.update(0, TIMELINE)
    layer = model.transformer.h[1].mlp.c_fc
    assert raw_parameter(layer)[layer.weight == 0].abs().max() <= layer.weight[layer.weight != 0].abs().min()


def test_the_schedule_is_followed_and_its_end_is_met():
    cubic = Cubic(to=0.8, start=TimePoint("15 steps"), stop=TimePoint("48 steps"))
    _, pruner = attached("bert", sparsity=cubic, every=TimePoint("10%"))
    seen = {}
    for step in range(101):
        before = pruner.current_sparsity()
        pruner.update(step, TIMELINE)
        if pruner.current_sparsity() != before:
            seen[step] = pruner.current_sparsity()
    weights = [module.weight for module in pruner.weights.values()]
    assert list(seen) == [25, 35, 45, 48]
    for step, sparsity in seen.items():
        share = 0.8 - 0.8 * (1 - (step - 15) / 33) ** 3
        sizes = [weight.numel() for weight in weights]
        assert sparsity == sum(round(share * size) for size in sizes) / sum(sizes)


@pytest.mark.parametrize(
    "sparsity, shares",
    [
        (Cubic(initial=0.5, to=0.8, start=TimePoint("50%")), {0: 0.5, 40: 0.5, 100: 0.8}),
        (Steps(initial=0.25, at={"50%": 0.5}), {0: 0.25, 49: 0.25, 50: 0.5}),
    ],
)
def test_what_is_removed_initially_goes_at_once(sparsity, shares):
    _, pruner = attached("bert", sparsity=sparsity)
    for step in range(101):
        pruner.update(step, TIMELINE)
        if step in shares:
            assert pruner.current_sparsity() == pytest.approx(shares[step], abs=1e-3)


def test_a_share_in_groups_is_one_that_comes_out():
    for share, scope in ((0.5, 4), (0.75, 64), (0.333333, 3), (1.0, 7), (0.0, 5)):
        Magnitude(sparsity=Cubic(to=share), scope=scope).check(TIMELINE)
    Magnitude(sparsity=Steps(at={"10%": 0.3, "50%": 0.5}), scope=4).check(TIMELINE)
    for share, scope, printed in ((0.7, 4, "0.75"), (0.3, 3, "0.333333"), (0.1, 4, "0"), (0.99, 64, "0.984375")):
        with pytest.raises(
            ValueError, match=f"^sparsity: ends at {share}, which groups of {scope} .*; write {printed}"
        ):
            Magnitude(sparsity=Cubic(to=share), scope=scope).check(TIMELINE)


def test_nothing_is_computed_when_nothing_is_due():
    class Silent(ScoredPruner):
        def scores(self):
            raise AssertionError("asked for scores")

    cubic = Cubic(to=0.8, start=TimePoint("20%"), stop=TimePoint("60%"))
    model, pruner = tiny("bert"), Silent(sparsity=cubic, every=TimePoint("5%"))
    pruner.attach(model)
    for step in [*range(20), 21, 24, 59, *range(61, 101)]:
        pruner.update(step, TIMELINE)
    with pytest.raises(AssertionError):
        pruner.update(25, TIMELINE)
    assert pruner.is_due(60, TIMELINE)


def test_stairs_and_short_runs_are_met_too():
    timeline = Timeline(total_steps=8, epoch_steps=4)
    _, pruner = attached("bert", sparsity=Steps(at={"25%": 0.25, "50%": 0.5}))
    seen = []
    for step in range(9):
        pruner.update(step, timeline)
        seen.append(pruner.current_sparsity())
    assert seen == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    "kind", [Fisher, Magnitude, Movement, Random, SparseGPT, Taylor, Wanda], ids=lambda k: k.__name__
)
def test_every_score_may_begin_with_the_run_and_end_with_nothing_masked(kind):
    model = tiny("bert").train()
    there_and_back = Steps(at={"0 steps": 0.0, "2 steps": 0.5, "3 steps": 0.0})
    pruner, masked = kind(sparsity=there_and_back, every=TimePoint("1 steps")), []
    pruner.attach(model)
    pruner.check(TIMELINE)
    pruner.update(0, TIMELINE)
    inputs = batch("bert") | {"attention_mask": torch.ones_like(batch("bert")["input_ids"])}
    for step in range(4):
        pruner.before_forward(step, TIMELINE, inputs)
        model(**inputs).loss.backward()
        pruner.before_optimizer_step(step, TIMELINE)
        pruner.update(step + 1, TIMELINE)
        masked.append(round(pruner.current_sparsity(), 2))
    assert masked == [0, 0.5, 0, 0]
    assert all(not mask.enabled for mask in find_weight_transforms(model, Mask).values())


def test_weights_come_back_when_they_have_grown():
    model, pruner = attached("bert", sparsity=Cubic(to=0.5, initial=0.5), every=TimePoint("1 steps"))
    pruner.update(0, TIMELINE)
    layer = model.bert.encoder.layer[0].attention.self.query
    gone = (layer.weight == 0).nonzero()[0]
    with torch.no_grad():
        raw_parameter(layer)[tuple(gone)] = 9.0
    pruner.update(1, TIMELINE)
    assert layer.weight[tuple(gone)] == 9.0


def test_masks_of_two_pruners_chain():
    model = tiny("bert")
    pruners = {
        "units": Magnitude(sparsity=Constant(0.5), shape="neurons"),
        "entries": Magnitude(sparsity=Constant(0.5)),
    }
    for pruner in pruners.values():
        pruner.attach(model)
        pruner.update(0, TIMELINE)
    assert len(list(model.bert.encoder.layer[0].intermediate.dense.parametrizations.weight)) == 2
    assert all(pruner.current_sparsity() == 0.5 for pruner in pruners.values())
    assert 0.5 < Prune(pruners).sparsity < 0.75


def test_the_schedule_is_checked_before_the_first_step():
    with pytest.raises(ValueError, match=r"^sparsity: "):
        Magnitude(sparsity=Cubic(to=80)).check(TIMELINE)
    with pytest.raises(ValueError, match="500 steps"):
        Magnitude(sparsity=Cubic(to=0.8, stop=TimePoint("500 steps"))).check(TIMELINE)
    Magnitude(sparsity=Cubic(to=1.0)).check(TIMELINE)


def three_shapes() -> Prune:
    window = {"start": TimePoint("3 steps"), "stop": TimePoint("9 steps")}
    return Prune(
        {
            "entries": Magnitude(sparsity=Cubic(to=0.6, **window), every=TimePoint("2 steps")),
            "neurons": Magnitude(sparsity=Cubic(to=0.5, **window), shape="neurons"),
            "layers": Magnitude(sparsity=Cubic(to=0.25, **window), shape="layers"),
            "chance": Random(sparsity=Cubic(to=0.5, **window), shape="heads"),
        }
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    prune = three_shapes()
    return fit(tmp_path_factory.mktemp("run"), prune), prune


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", [2, 4, 5, 8, 9, 11])
def test_a_resumed_run_is_the_run_bit_for_bit(uninterrupted, tmp_path, start):
    expected, _ = uninterrupted
    resumed = resume(expected, tmp_path, three_shapes(), start)
    enabled = {name: mask.enabled for name, mask in find_weight_transforms(resumed, Mask).items()}
    assert enabled == {name: mask.enabled for name, mask in find_weight_transforms(expected, Mask).items()} and any(
        enabled.values()
    )


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_hold_the_sparsity_of_their_step(uninterrupted):
    whole, prune = uninterrupted
    expected = {2: 0, 3: 0, 5: 0.6 * (1 - (4 / 6) ** 3), 6: 0.6 * (1 - (4 / 6) ** 3), 9: 0.6, 12: 0.6}
    path = "student.bert.encoder.layer.0.attention.self.query.parametrizations.weight.0.mask"
    for step, share in expected.items():
        mask = whole.saved(step)["state_dict"][path]
        assert int((~mask).sum()) == round(share * mask.numel())
    assert prune.pruners["entries"].current_sparsity() == pytest.approx(0.6, abs=1e-3)
    assert prune.pruners["neurons"].current_sparsity() == 0.5 and prune.pruners["layers"].current_sparsity() == 0.25
