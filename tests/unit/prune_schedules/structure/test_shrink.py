"""Units leave the tensors while the student trains: it goes on as with masks, and so does a resumed run."""

import copy

import pytest
import torch
from torch.nn.utils import parametrize

from prune_schedules.callback import Prune
from prune_schedules.schedule import Cubic, Steps, Timeline, TimePoint
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.shrink import cut_settled
from prune_schedules.targets.mask import Mask
from quant_aware.quantize import Quantize
from quant_aware.quantizers.fake_quant import FakeQuant
from students.structure.units import heads, neurons
from students.weights import (
    add_weight_transform,
    find_weight_transforms,
    get_weight_transforms,
    parameter_names,
    raw_parameter,
    remove_weight_transform,
)
from tests.helpers.families import FAMILIES, batch, tiny
from tests.helpers.pruning.runs import fit, fit_on, resume

TIMELINE = Timeline(total_steps=10, epoch_steps=10)
SHAPES = {"neurons", "heads"}
BRANCHES = SHAPES | {"layers"}


class Learner:
    """A model that trains by hand: pruned at step 3, and cut then or not."""

    def __init__(self, name: str, shares: dict[str, float], cuts: bool, quantize: bool = False):
        self.model, self.cuts, self.name, self.idle = tiny(name), cuts, name, []
        self.pruners = {
            shape: Magnitude(sparsity=Steps(at={"3 steps": share}), shape=shape, scope="global")
            for shape, share in shares.items()
        }
        for pruner in self.pruners.values():
            pruner.attach(self.model)
        if quantize:
            whole = Quantize()
            whole.attach(self.model)
            whole.update(0, TIMELINE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    def step(self, number: int) -> float:
        self.optimizer.zero_grad()
        loss = self.model(**batch(self.name, seed=number)).loss
        loss.backward()
        for bias in self.idle:
            bias.grad = None
        self.optimizer.step()
        for pruner in self.pruners.values():
            pruner.update(number, TIMELINE)
        if self.cuts:
            self.idle += cut_settled(self.model, self.pruners, BRANCHES, number, TIMELINE, [self.optimizer])
        return float(loss.detach())


def pair(name: str, shares: dict[str, float], **given) -> tuple[Learner, Learner]:
    return Learner(name, shares, cuts=False, **given), Learner(name, shares, cuts=True, **given)


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_trains_on_as_with_masks(name, quantize):
    masked, cut = pair(name, {"elements": 0.3, "neurons": 0.5, "heads": 0.5}, quantize=quantize)
    for number in range(1, 9):
        before, after = masked.step(number), cut.step(number)
        # Rounding to 8 bits makes a step of a grid of what was a difference of float32.
        assert after == pytest.approx(before, abs=5e-3 if quantize and number > 3 else 1e-5), number
    sizes = [sum(p.numel() for p in each.model.parameters()) for each in (masked, cut)]
    assert sizes[1] < 0.9 * sizes[0]
    assert sum(units.count for units in neurons(cut.model)) == sum(units.count for units in neurons(masked.model)) // 2
    assert all(p is q for p, q in zip(cut.model.parameters(), cut.optimizer.param_groups[0]["params"], strict=True))


@pytest.mark.parametrize("quantize", [False, True])
def test_what_is_computed_stays_when_units_leave(quantize):
    masked, cut = pair("bert", {"elements": 0.3, "neurons": 0.5, "heads": 0.5}, quantize=quantize)
    for number in range(1, 4):
        masked.step(number), cut.step(number)
    one, other = (each.model(**batch("bert")).logits for each in (masked, cut))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    left, before = (
        [step.enabled for step in find_weight_transforms(each.model, FakeQuant).values()] for each in (cut, masked)
    )
    assert left == before and any(left) == quantize


@pytest.mark.parametrize("more", [{}, {"neurons": 0.5, "heads": 0.5, "elements": 0.3}], ids=["alone", "with units"])
@pytest.mark.parametrize("name", FAMILIES)
def test_branches_that_are_gone_leave_too(name, more):
    """Three quarters of the attentions and feed-forwards; what added their bias adds nothing, and learns nothing."""
    masked, cut = pair(name, {"layers": 0.75} | more)
    for number in range(1, 9):
        before, after = masked.step(number), cut.step(number)
        assert after == pytest.approx(before, abs=1e-5), number
    sizes = [sum(p.numel() for p in each.model.parameters()) for each in (masked, cut)]
    gone = [units.name for units in neurons(cut.model) + heads(cut.model) if units.count == 0]
    there = [part for part in masked.pruners["layers"].parts if not part.kept().any()]
    stay = {part.units.name for part in there if name == "t5" and part.units.name.endswith(".self")}
    assert gone and set(gone) == {part.units.name for part in there} - stay - {"decoder.0.self"}
    assert sizes[1] < sizes[0] and all(not bias.any() for bias in cut.idle)
    assert all(p is q for p, q in zip(cut.model.parameters(), cut.optimizer.param_groups[0]["params"], strict=True))
    assert masked.pruners["layers"].sparsity_now() == cut.pruners["layers"].sparsity_now() >= 0.5


def test_the_optimizer_keeps_its_state_of_what_is_left():
    masked, cut = pair("gpt2", {"neurons": 0.5, "heads": 0.5})
    for each in (masked, cut):
        raw_parameter(each.model.transformer.h[0].mlp.c_proj).requires_grad_(False)
        for number in range(1, 4):
            each.step(number)
    old, new = masked.optimizer, cut.optimizer
    assert len(new.state) == len(old.state) == len(list(masked.model.parameters())) - 1
    kept = {part.units.name: part.kept() for pruner in masked.pruners.values() for part in pruner.parts}
    whole, left = (neurons(each.model) + heads(each.model) for each in (masked, cut))
    for before, after in zip(whole, left, strict=True):
        entries = before.entries(kept[before.name])
        assert after.count == int(kept[before.name].sum())
        places = after.entries(torch.ones(after.count))
        for ((module, key), (axis, stay)), other in zip(entries.items(), places, strict=True):
            one, two = raw_parameter(module, key), raw_parameter(*other)
            assert torch.equal(one[stay] if axis == 0 else one[:, stay], two)
            assert one.requires_grad == two.requires_grad
            if one.requires_grad:
                assert new.state[two]["step"] == 3
                for moment in ("exp_avg", "exp_avg_sq"):
                    was = old.state[one][moment]
                    assert torch.equal(was[stay] if axis == 0 else was[:, stay], new.state[two][moment])


def test_names_stay_by_which_parameters_are_frozen():
    _, cut = pair("bert", {"neurons": 0.5})
    before = sorted(name for names in parameter_names(cut.model).values() for name in names)
    for number in range(1, 4):
        cut.step(number)
    assert sorted(name for names in parameter_names(cut.model).values() for name in names) == before
    assert not any(parametrize.is_parametrized(module) for module in cut.model.modules())


def test_units_wait_for_every_pruner_on_their_tensors():
    """Elements are ranked with what lies beneath the masks of neurons; attention has no part in that."""
    late = {"sparsity": Steps(at={"6 steps": 0.5})}
    pruners = {
        "neurons": Magnitude(sparsity=Steps(at={"3 steps": 0.5}), shape="neurons"),
        "heads": Magnitude(sparsity=Steps(at={"4 steps": 0.5}), shape="heads"),
        "elements": Magnitude(**late, where=["ffn"]),
    }
    model, seen = tiny("bert"), []
    for pruner in pruners.values():
        pruner.attach(model)
    prune = Prune(pruners)
    for number in range(1, 8):
        for pruner in pruners.values():
            pruner.update(number, TIMELINE)
        before, shares = prune.sparsity, [pruner.sparsity_now() for pruner in pruners.values()]
        cut_settled(model, pruners, SHAPES, number, TIMELINE, [])
        assert prune.sparsity == before
        assert [pruner.sparsity_now() for pruner in pruners.values()][:2] == shares[:2]
        seen.append((neurons(model)[0].count, heads(model)[0].count))
    assert seen == [(64, 4)] * 3 + [(64, 2)] * 2 + [(32, 2)] * 2
    assert all(len(get_weight_transforms(layer)) == 1 for layer in pruners["elements"].weights.values())


def test_two_pruners_of_the_same_neurons_are_cut_together():
    pruners = {
        "first": Magnitude(sparsity=Steps(at={"2 steps": 0.25}), shape="neurons"),
        "second": Magnitude(sparsity=Steps(at={"4 steps": 0.5}), shape="neurons"),
    }
    model, seen = tiny("bert"), []
    for pruner in pruners.values():
        pruner.attach(model)
    for number in range(1, 6):
        for pruner in pruners.values():
            pruner.update(number, TIMELINE)
        cut_settled(model, pruners, SHAPES, number, TIMELINE, [])
        seen.append(neurons(model)[0].count)
    assert seen == [64, 64, 64, 32, 32] and not find_weight_transforms(model, Mask)


@pytest.mark.parametrize("name, shapes, left", [("bert", {"neurons"}, 2), ("t5", SHAPES, 2)])
def test_heads_stay_where_they_have_to(name, shapes, left):
    learner = Learner(name, {"neurons": 0.5, "heads": 0.5}, cuts=False)
    for pruner in learner.pruners.values():
        pruner.update(3, TIMELINE)
    cut_settled(learner.model, learner.pruners, shapes, 3, TIMELINE, [])
    free = {units.name for units in heads(learner.model) if name == "t5" and units.name.endswith(".cross")}
    assert all(units.count == (2 if units.name in free else 4) for units in heads(learner.model))
    assert sum(units.count for units in neurons(learner.model)) < 64 * len(neurons(learner.model))
    assert len(find_weight_transforms(learner.model, Mask)) > 0


def test_a_step_is_taken_from_between_others():
    layer, first, last = torch.nn.Linear(3, 2), Mask((2, 3)), FakeQuant()
    for step in (first, Mask((2, 1)), last):
        add_weight_transform(layer, step)
    middle, parameter = get_weight_transforms(layer)[1], raw_parameter(layer)
    remove_weight_transform(layer, middle)
    assert get_weight_transforms(layer) == [first, last]
    remove_weight_transform(layer, first)
    remove_weight_transform(layer, last)
    assert layer.weight is parameter and not parametrize.is_parametrized(layer)


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
    (whole, prune), again = uninterrupted, three_shapes()
    resume(whole, tmp_path, again, start)
    assert again.sparsity == prune.sparsity == again.curves["sparsity"] == prune.curves["sparsity"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", [8, 9, 10, 11])
def test_a_run_without_its_branches_resumes_bit_for_bit(tmp_path, start):
    prune, again = with_branches(), with_branches()
    whole = fit(tmp_path / "whole", prune)
    assert 0 in {units.count for units in neurons(whole.student) + heads(whole.student)}
    resume(whole, tmp_path, again, start)
    assert again.sparsity == prune.sparsity == again.curves["sparsity"]


@pytest.mark.filterwarnings("ignore")
def test_the_callback_cuts_at_the_end_of_each_window_and_the_losses_are_those_with_masks(uninterrupted, tmp_path):
    (whole, prune), kept = uninterrupted, three_shapes(cuts=False)
    masked = fit(tmp_path, kept)
    # Dropout of attention draws for each head: from the first step without them, it is another draw.
    assert whole.seen[:10] == pytest.approx(masked.seen[:10], abs=1e-5)
    assert prune.sparsity == kept.sparsity and len(find_weight_transforms(whole, Mask)) < len(
        find_weight_transforms(masked, Mask)
    )
    counts = {}
    for step in (7, 8, 9, 10):
        state = whole.saved(step)["state_dict"]
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
    (whole, prune), again = uninterrupted, three_shapes()
    resumed = fit_on(whole, tmp_path, again, 9, strategy="ddp")
    assert sum(units.count for units in neurons(resumed.student)) == 64 and len(resumed.seen) == 3
    assert {units.count for units in heads(resumed.student)} == {4} and again.sparsity == prune.sparsity
    assert resumed.seen[0] == whole.seen[9]


@pytest.mark.filterwarnings("ignore")
def test_the_student_can_be_copied_and_loaded_after_the_run(uninterrupted):
    whole, _ = uninterrupted
    twin = copy.deepcopy(whole.student)
    assert not whole.student._load_state_dict_pre_hooks
    twin.load_state_dict(whole.student.state_dict())
