"""Pruning by what the layers read, against float64 references, and through a run that is interrupted."""

import numpy as np
import pytest
import torch

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Cubic, Steps, TimePoint
from prune_schedules.scores.sparsegpt import SparseGPT, sparsegpt
from prune_schedules.scores.wanda import Wanda
from students.families.families import blocks
from students.forms.low_rank import LowRank
from students.kinds.transformer import Transformer
from students.weights import out_axis, raw_parameter
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.inputs import ONCE, TIMELINE, attach, hear, padded, read
from tests.helpers.pruning.runs import resumable


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_wanda_is_weight_times_norm_of_what_is_read(name):
    pruner, inputs = Wanda(sparsity=ONCE, scope="row", where=["ffn"]), padded(name)
    seen = []
    model = tiny(name).eval()
    inner = next(module for module in blocks(model)[0].modules() if module in set(_ffn(model)))
    hook = inner.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    model(**inputs)
    hook.remove()
    rows = seen[0][inputs["attention_mask"].bool()].double()
    again = read(name, pruner, inputs)
    weight = raw_parameter(_ffn(again)[0]).detach().double()
    weight = weight.T if name == "gpt2" else weight
    expected = weight.abs() * rows.square().sum(0).sqrt()
    torch.testing.assert_close(pruner.scores()[0].double(), expected, rtol=1e-4, atol=1e-7)
    pruner.update(5, TIMELINE)
    mask = pruner.targets[0].mask.mask
    mask = mask.T if name == "gpt2" else mask
    assert (mask.sum(dim=1) == weight.shape[1] // 2).all()
    assert (torch.where(mask, -torch.inf, expected).amax(1) <= torch.where(mask, expected, torch.inf).amin(1)).all()
    assert pruner.statistics == {}


@pytest.mark.parametrize("shape", ["neurons", "heads", "layers"])
@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_wanda_of_units_is_over_the_weights_that_send_them(name, factored, shape):
    """Of a layer in two factors the first; of whole branches, whose bias goes with them, the weights alone."""
    model, pruner, inputs = tiny(name), Wanda(sparsity=ONCE, shape=shape, scope="global"), padded(name)
    if factored:
        model = Transformer(low_rank=LowRank(param_ratio=0.9)).build(model, None, None)
    model = hear(model.eval(), pruner)
    attach(model, pruner, inputs)
    for part, scores in zip(pruner.targets, pruner.scores(), strict=True):
        weighted = raw_parameter(part.reader).movedim(out_axis(part.reader), 0) * pruner.statistics[part.reader].sqrt()
        units = weighted.T.reshape(part.initial_count, -1)
        torch.testing.assert_close(scores, units.square().mean(dim=1).sqrt())
    pruner.update(5, TIMELINE)
    assert 0 < pruner.current_sparsity() <= 0.5


def _ffn(model) -> list:
    pruner = Wanda(sparsity=ONCE, where=["ffn"])
    return pruner.find(model)


def test_a_validation_is_not_listened_to():
    """One between two batches of a step has other rows, and another mask."""
    pruner, inputs = Wanda(sparsity=ONCE), padded("bert")
    model = read("bert", pruner, inputs)
    before = [scores.clone() for scores in pruner.scores()]
    pruner.before_forward(4, TIMELINE, inputs)
    model.eval()(**batch("bert", size=1))
    pruner.before_optimizer_step(4, TIMELINE)
    assert all(map(torch.equal, pruner.scores(), before))


def test_inputs_are_gathered_just_before_masks_are_due():
    ramp = Cubic(to=0.5, start=TimePoint("10 steps"), stop=TimePoint("14 steps"))
    pruner = Wanda(sparsity=ramp, batches=2, every=TimePoint("4 steps"))
    model = tiny("bert").eval()
    pruner.attach(model)
    listens = []
    for step in range(20):
        pruner.before_forward(step, TIMELINE, batch("bert"))
        listens.append(any(module._forward_pre_hooks for module in model.modules()))
    assert [step for step, listening in enumerate(listens) if listening] == [8, 9, 12, 13]


def test_norms_that_were_loaded_follow_the_model():
    """Lightning loads them before it moves the model, here to meta, where there are no numbers."""
    pruner, again, model = Wanda(sparsity=ONCE), Wanda(sparsity=ONCE), tiny("bert")
    read("bert", pruner, padded("bert"))
    again.attach(model)
    again.load_state_dict(pruner.state_dict())
    model.to("meta")
    assert {scores.device.type for scores in again.scores()} == {"meta"}
    again._pending = {reader: norms.to("meta") for reader, norms in again.statistics.items()}
    again.before_optimizer_step(5, TIMELINE)
    assert {norms.device.type for norms in again.statistics.values()} == {"meta"}


def reference(weight: np.ndarray, gram: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """OBS column by column: the inverse over the columns not yet done is computed anew each time."""
    weight, n = weight.copy(), len(gram)
    damped = gram + 0.01 * np.mean(np.diag(gram)) * np.eye(n)
    for j in range(n):
        inverse = np.linalg.inv(damped[j:, j:])
        for row in range(len(weight)):
            if not kept[row, j]:
                weight[row, j:] -= weight[row, j] / inverse[0, 0] * inverse[0]
    return weight


def test_sparsegpt_is_obs_on_the_columns_not_yet_done():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(50, 12)) @ rng.normal(size=(12, 12))
    weight, gram = rng.normal(size=(5, 12)), inputs.T @ inputs
    changed, mask = sparsegpt(torch.tensor(weight), torch.tensor(gram), 0.5, "row", block_size=4)
    assert (mask.reshape(5, 3, 4).sum(-1) == 2).all()
    np.testing.assert_allclose(changed.numpy(), reference(weight, gram, mask.numpy()) * mask.numpy(), atol=1e-9)
    plain = weight * mask.numpy()
    error = np.linalg.norm((weight - changed.numpy()) @ inputs.T)
    assert error < np.linalg.norm((weight - plain) @ inputs.T)


@pytest.mark.parametrize("columns, group", [(12, 4), (12, 3), (132, 6)])
def test_sparsegpt_chooses_of_each_group_when_those_before_it_are_done(columns, group):
    """Half of every group, by what they cost as they are by then (OBS: w^2 over the inverse's diagonal)."""
    rng = np.random.default_rng(0)
    gram = np.cov(rng.normal(size=(columns, columns)) @ rng.normal(size=(columns, 400)))
    weight = rng.normal(size=(5, columns))
    changed, mask = sparsegpt(torch.tensor(weight), torch.tensor(gram), 1 / 2 if group != 3 else 1 / 3, group)
    expected, gone = np.ones_like(weight, dtype=bool), group // 2
    damped = gram + 0.01 * np.mean(np.diag(gram)) * np.eye(columns)
    for start in range(0, columns, group):
        now = reference(weight, gram, np.where(np.arange(columns) < start, expected, True))
        cost = [now[:, j] ** 2 / np.linalg.inv(damped[j:, j:])[0, 0] for j in range(start, start + group)]
        for row, first in enumerate(np.argsort(np.stack(cost, 1), axis=1)[:, :gone]):
            expected[row, start + first] = False
    assert (mask.numpy() == expected).all()
    np.testing.assert_allclose(changed.numpy(), reference(weight, gram, expected) * expected, atol=1e-9)


def test_sparsegpt_loses_less_than_wanda_and_magnitude():
    torch.manual_seed(0)
    inputs = torch.randn(200, 64, dtype=torch.float64) @ torch.randn(64, 64, dtype=torch.float64)
    inputs = inputs * torch.linspace(0.1, 3.0, 64)
    weight = torch.randn(32, 64, dtype=torch.float64)
    changed, _ = sparsegpt(weight, inputs.T @ inputs, 0.5, "row")
    lost = {"sparsegpt": (weight - changed) @ inputs.T}
    for name, score in {"wanda": weight.abs() * inputs.norm(dim=0), "magnitude": weight.abs()}.items():
        threshold = score.kthvalue(32, dim=1, keepdim=True).values
        lost[name] = (weight * (score <= threshold)) @ inputs.T
    assert lost["sparsegpt"].norm() < 0.95 * lost["wanda"].norm()
    assert lost["wanda"].norm() < lost["magnitude"].norm()


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("scope", ["layer", "row", 4])
def test_sparsegpt_on_a_model(name, scope):
    pruner = SparseGPT(sparsity=ONCE, scope=scope)
    model = read(name, pruner, batch(name))
    before = {module: raw_parameter(module).detach().clone() for module in pruner.weights.values()}
    pruner.update(5, TIMELINE)
    assert pruner.current_sparsity() == pytest.approx(0.5, abs=0.01)
    for module, old in before.items():
        assert (module.weight == 0).float().mean() >= 0.49
        nonzero = module.weight != 0
        assert not torch.equal(module.weight[nonzero], old[nonzero])
    assert model(**batch(name)).logits.isfinite().all()


@pytest.mark.filterwarnings("ignore")
def test_a_run_resumed_while_inputs_are_gathered_is_the_run_bit_for_bit(tmp_path):
    def make() -> Prune:
        read = Wanda(sparsity=Steps(at={"6 steps": 0.5}), batches=3, where=["ffn"])
        solved = SparseGPT(sparsity=Steps(at={"7 steps": 0.5}), batches=3, where=["attention"])
        return Prune({"read": read, "solved": solved})

    uninterrupted = resumable(tmp_path, make, (4, 5, 6))
    seen = {start: uninterrupted.saved(start)["callbacks"]["Prune"]["pruners"] for start in (3, 4, 5, 6, 7)}
    gathering = {
        start: sorted(name for name, state in statistics.items() if state) for start, statistics in seen.items()
    }
    assert gathering == {3: [], 4: ["read"], 5: ["read", "solved"], 6: ["solved"], 7: []}


@pytest.mark.parametrize(
    "kind, fields, message",
    [
        (Wanda, {"batches": 0}, "batches: "),
        (Wanda, {"where": ["embeddings"]}, "where: inputs are collected"),
        (SparseGPT, {"shape": "heads"}, "shape: SparseGPT"),
        (SparseGPT, {"shape": [4, 4]}, "shape: SparseGPT"),
        (SparseGPT, {"scope": "global"}, "scope: SparseGPT"),
    ],
)
def test_mistakes_name_their_field(kind, fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        kind(sparsity=ONCE, **fields)


def test_nothing_goes_before_a_batch_was_seen():
    with pytest.raises(ValueError, match="^sparsity: is 0.5 at step 0, before a batch was collected"):
        Wanda(sparsity=Constant(0.5)).check(TIMELINE)
