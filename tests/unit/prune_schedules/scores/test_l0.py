"""Gates that are learned: their distribution, the share that is held, their gradients, and runs that stop."""

import pytest
import torch

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Cubic, Linear, Steps, Timeline, TimePoint
from prune_schedules.scores.l0 import L0, hard_concrete, open_probability, shift_to_sparsity
from prune_schedules.scores.magnitude import Random
from prune_schedules.targets.mask import Mask
from students.weights import find_weight_transforms, raw_parameter
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.runs import resumable

TIMELINE = Timeline(total_steps=20, epoch_steps=10)
LATER = Cubic(to=0.5, start=TimePoint("25%"), stop=TimePoint("75%"))


@pytest.mark.parametrize("logit", [-3.0, 0.0, 2.0])
def test_the_distribution_of_a_gate(logit):
    """P(z = 0) in closed form, and the mean against a numeric integral over u."""
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    gates = hard_concrete(torch.tensor(logit, dtype=torch.float64), uniform)
    assert gates.min() >= 0 and gates.max() <= 1
    opened = float((gates > 0).double().mean())
    assert opened == pytest.approx(float(open_probability(torch.tensor(logit, dtype=torch.float64))), abs=2e-5)
    assert opened == pytest.approx(1 - 1 / (1 + 11 ** (2 / 3) * torch.e**logit), abs=2e-5)
    z = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    noise = 2 / 3 * torch.logit((z + 0.1) / 1.2) - logit
    torch.testing.assert_close(hard_concrete(torch.tensor(logit, dtype=torch.float64), torch.sigmoid(noise)), z)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("count", [1, 7, 20_000])
def test_the_share_is_held(share, count):
    logits = 4 * torch.randn(count, generator=torch.Generator().manual_seed(0))
    moved = shift_to_sparsity(logits, share)
    assert float(1 - open_probability(moved).mean()) == pytest.approx(share, abs=1e-3)
    torch.testing.assert_close((moved - logits).expand(count), (moved - logits)[:1].expand(count), atol=1e-4, rtol=0)


def test_the_gradient_is_that_of_the_solution():
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.arange(6, dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    (shift_to_sparsity(leaf, 0.4) * weights).sum().backward()
    for i in range(6):
        ends = [(shift_to_sparsity(logits + sign * 1e-4 * torch.eye(6)[i], 0.4) * weights).sum() for sign in (1, -1)]
        assert float(leaf.grad[i]) == pytest.approx(float((ends[0] - ends[1]) / 2e-4), abs=1e-4)


def at_step(model, pruner, step):
    pruner.before_forward(step, TIMELINE, {})
    out = model(**batch(model.config.model_type))
    out.loss.backward()
    return out


def test_gates_of_several_pruners_on_one_weight_see_each_other():
    """CoFi's z_MHA, z_head, z_FFN and z_int together: the gradient of each is that of the product."""
    model = tiny("bert").eval()
    pruners = [L0(sparsity=LATER, shape=shape) for shape in ("layers", "heads", "neurons")]
    heeded = {}
    for pruner in pruners:
        pruner.attach(model)
        pruner.update_scores = lambda gradients, step, timeline, shape=pruner.shape: heeded.update({shape: gradients})
    model.train(False)
    for mask in find_weight_transforms(model, Mask).values():
        mask.train()
    for pruner in pruners:
        pruner.before_forward(8, TIMELINE, {})
    model(**batch("bert")).loss.backward()
    drawn = [gate.detach().clone() for pruner in pruners for gate in pruner._gates]
    parts = [part for pruner in pruners for part in pruner.targets]
    for pruner in pruners:
        pruner.before_optimizer_step(8, TIMELINE)
    actual = [gradient for pruner in pruners for gradient in heeded[pruner.shape]]

    def loss(gates):
        for part, gate in zip(parts, gates, strict=True):
            part.set_gates(gate)
        with torch.no_grad():
            return model.double()(**batch("bert")).loss

    for i in (0, 1, len(drawn) - 1):
        ends = []
        for change in (1e-3, -1e-3):
            gates = [gate.double() for gate in drawn]
            gates[i].view(-1)[0] += change
            ends.append(loss(gates))
        assert float(actual[i].view(-1)[0]) == pytest.approx(float((ends[0] - ends[1]) / 2e-3), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("shape, scope", [("neurons", "global"), ("elements", "layer"), ([4, 4], "global")])
def test_what_the_loss_needs_stays_open(shape, scope):
    pruner = L0(sparsity=Steps(at={"10%": 0.5, "90%": 0.6}), shape=shape, scope=scope)
    pruner.attach(tiny("bert"))
    draw = torch.Generator().manual_seed(0)
    needed = [torch.rand(logits.shape, generator=draw) for logits in pruner.logits]
    for step in range(2, 18):
        pruner.before_forward(step, TIMELINE, {})
        pruner.update_scores(
            [0.5 - expected_gates for expected_gates in needed], step, TIMELINE
        )  # the loss falls where a gate above 0.5 opens
    kept = []
    for part in pruner.targets:
        part.keep = kept.append
    pruner.update(18, TIMELINE)
    masked = torch.cat([expected_gates[~keep] for expected_gates, keep in zip(needed, kept, strict=True)])
    assert len(masked) == pytest.approx(0.6 * sum(expected_gates.numel() for expected_gates in needed), abs=len(needed))
    assert masked.mean() < 0.35, "of the numbers up to 0.6 all and no others would be 0.3"


def test_training_sees_gates_and_evaluation_masks():
    model = tiny("bert")
    pruner = L0(sparsity=Steps(at={"10%": 0.5, "90%": 0.6}), shape="heads")
    pruner.attach(model)
    pruner.update(2, TIMELINE)
    pruner.before_forward(2, TIMELINE, {})
    part = pruner.targets[0]
    ((module, name),) = part.outgoing_masks
    scale = getattr(module.train(), name) / raw_parameter(module, name)
    assert ((scale > 0.001) & (scale < 0.999)).any()
    assert torch.equal(getattr(module.eval(), name), raw_parameter(module, name) * part.masks[module, name].mask)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", ["neurons", [4, 4]])
def test_a_resumed_run_is_the_run_bit_for_bit(tmp_path, shape):
    sparsity = Cubic(to=0.4, start=TimePoint("4 steps"), stop=TimePoint("10 steps"))

    def make() -> Prune:
        return Prune({"gates": L0(sparsity=sparsity, every=TimePoint("3 steps"), shape=shape)})

    uninterrupted = resumable(tmp_path, make, (3, 6, 11))
    masks = list(find_weight_transforms(uninterrupted, Mask).values())
    assert masks and not all(mask.mask.all() for mask in masks)
    assert all(mask.gate is None and not mask.suspended and not mask.straight_through for mask in masks)


@pytest.mark.parametrize("shape", ["elements", "heads", "hidden"])
def test_a_model_may_move_when_its_gates_are_made(shape, monkeypatch):
    """Lightning moves it after ``setup``. Of a model on meta there are no numbers: its gradients are made up."""
    model, pruner = tiny("bert"), L0(sparsity=LATER, shape=shape)
    pruner.attach(model)
    model.to("meta")
    pruner.before_forward(8, TIMELINE, {})
    assert {
        mask.gate.device.type for mask in find_weight_transforms(model, Mask).values() if mask.gate is not None
    } == {"meta"}
    real = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: torch.ones(self.shape) if self.is_meta else real(self))
    pruner.update_scores([torch.empty(gates.shape, device="meta") for gates in pruner._gates], 8, TIMELINE)
    assert all(logits.device.type == "cpu" and logits.any() for logits in pruner.logits)
    saved, again = pruner.state_dict(), L0(sparsity=LATER, shape=shape)
    again.attach(tiny("bert").to("meta"))
    again.load_state_dict(saved)
    assert all(map(torch.equal, again.logits, pruner.logits))


@pytest.mark.parametrize("shape", ["elements", "heads"])
def test_what_is_left_out_lies_where_the_model_is(shape):
    model, pruner = tiny("bert"), Random(sparsity=Constant(0.5), shape=shape, dropout=Constant(0.5))
    pruner.attach(model.to("meta"))
    pruner.before_forward(0, TIMELINE, {})
    assert {
        mask.gate.device.type for mask in find_weight_transforms(model, Mask).values() if mask.gate is not None
    } == {"meta"}
    assert {scores.device.type for scores in pruner.scores()} == {"cpu"}


def test_a_step_that_overflowed_moves_no_gate():
    model, pruner = tiny("bert"), L0(sparsity=LATER, shape="heads")
    pruner.attach(model)
    at_step(model, pruner, 8)
    raw_parameter(pruner.targets[0].reader).grad[0, 0] = torch.nan
    pruner.before_optimizer_step(8, TIMELINE)
    assert not any(logits.any() for logits in pruner.logits) and not pruner.optimizer.state
    assert all(mask.gate is None and not mask.suspended for mask in find_weight_transforms(model, Mask).values())


def test_two_seeds_draw_other_gates():
    drawn = []
    for seed in (0, 0, 1):
        pruner = L0(sparsity=LATER, shape="heads")
        pruner.attach(tiny("bert"), seed)
        pruner.before_forward(8, TIMELINE, {})
        drawn.append(pruner._gates[0])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scope": "row"}, "^scope: L0 sets the sparsity of each layer or of all"),
        ({"dropout": Constant(0.1)}, "^dropout: the gates of L0 are random already"),
        ({"lr": 0.0}, "^lr: must be above 0, not 0.0"),
    ],
)
def test_mistakes_are_told(given, message):
    with pytest.raises(ValueError, match=message):
        L0(sparsity=LATER, **given)
    with pytest.raises(ValueError, match="^sparsity: is 0.5 at step 0, before there are gradients"):
        L0(sparsity=Constant(0.5)).check(TIMELINE)
    L0(sparsity=Linear(initial=0.0, to=0.5)).check(TIMELINE)
