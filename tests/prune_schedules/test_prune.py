import copy

import pytest
import torch
from torch import nn

from prune_schedules import Fisher, Magnitude, Movement, Random, SparseGPT, Taylor, Wanda
from prune_schedules.mask import Mask
from prune_schedules.prune import Prune
from prune_schedules.pruner import Scored
from prune_schedules.schedule import Constant, Cubic, Moment, Steps, Timeline
from students.weights import latent, select, steps
from tests.families import FAMILIES, batch, tiny
from tests.prune_schedules.runs import Module, fit

TIMELINE = Timeline(total_steps=100, epoch_steps=10)


def attached(name: str, **fields) -> tuple[nn.Module, Magnitude]:
    model, pruner = tiny(name), Magnitude(**fields)
    pruner.attach(model)
    return model, pruner


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_share_is_met_exactly(name, scope):
    model, pruner = attached(name, sparsity=Constant(0.37), scope=scope)
    pruner.update(0, TIMELINE)
    weights = [module.weight for module in select(model, ["attention", "ffn"])[0].values()]
    zeros = [int((weight == 0).sum()) for weight in weights]
    sizes = [weight.numel() for weight in weights]
    if scope == "global":
        assert sum(zeros) == round(0.37 * sum(sizes))
    else:
        assert zeros == [round(0.37 * size) for size in sizes]
    assert pruner.sparsity_now() == sum(zeros) / sum(sizes) == Prune({"a": pruner}).sparsity


def test_the_smallest_go():
    model, pruner = attached("gpt2", sparsity=Constant(0.5))
    pruner.update(0, TIMELINE)
    layer = model.transformer.h[1].mlp.c_fc
    assert latent(layer)[layer.weight == 0].abs().max() <= layer.weight[layer.weight != 0].abs().min()


def test_the_schedule_is_followed_and_its_end_is_met():
    cubic = Cubic(to=0.8, start=Moment("15 steps"), stop=Moment("48 steps"))
    _, pruner = attached("bert", sparsity=cubic, every=Moment("10%"))
    seen = {}
    for step in range(101):
        before = pruner.sparsity_now()
        pruner.update(step, TIMELINE)
        if pruner.sparsity_now() != before:
            seen[step] = pruner.sparsity_now()
    weights = [module.weight for module in pruner.weights.values()]
    assert list(seen) == [25, 35, 45, 48]
    for step, sparsity in seen.items():
        share = 0.8 - 0.8 * (1 - (step - 15) / 33) ** 3
        sizes = [weight.numel() for weight in weights]
        assert sparsity == sum(round(share * size) for size in sizes) / sum(sizes)


def test_nothing_is_computed_when_nothing_is_due():
    class Silent(Scored):
        def scores(self):
            raise AssertionError("asked for scores")

    cubic = Cubic(to=0.8, start=Moment("20%"), stop=Moment("60%"))
    model, pruner = tiny("bert"), Silent(sparsity=cubic, every=Moment("5%"))
    pruner.attach(model)
    for step in [*range(20), 21, 24, 59, *range(61, 101)]:
        pruner.update(step, TIMELINE)
    with pytest.raises(AssertionError):
        pruner.update(25, TIMELINE)
    assert pruner.due(60, TIMELINE)


def test_stairs_and_short_runs_are_met_too():
    timeline = Timeline(total_steps=8, epoch_steps=4)
    _, pruner = attached("bert", sparsity=Steps(at={"25%": 0.25, "50%": 0.5}))
    seen = []
    for step in range(9):
        pruner.update(step, timeline)
        seen.append(pruner.sparsity_now())
    assert seen == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    "kind", [Fisher, Magnitude, Movement, Random, SparseGPT, Taylor, Wanda], ids=lambda k: k.__name__
)
def test_every_score_may_begin_with_the_run_and_end_with_nothing_masked(kind):
    model = tiny("bert").eval()
    there_and_back = Steps(at={"0 steps": 0.0, "2 steps": 0.5, "3 steps": 0.0})
    pruner, masked = kind(sparsity=there_and_back, every=Moment("1 steps")), []
    pruner.attach(model)
    pruner.check(TIMELINE)
    pruner.update(0, TIMELINE)
    inputs = batch("bert") | {"attention_mask": torch.ones_like(batch("bert")["input_ids"])}
    for step in range(4):
        pruner.before_forward(step, TIMELINE, inputs)
        model(**inputs).loss.backward()
        pruner.before_step(step, TIMELINE)
        pruner.update(step + 1, TIMELINE)
        masked.append(round(pruner.sparsity_now(), 2))
    assert masked == [0, 0.5, 0, 0]
    assert all(not mask.enabled for mask in steps(model, Mask).values())


def test_weights_come_back_when_they_have_grown():
    model, pruner = attached("bert", sparsity=Cubic(to=0.5, initial=0.5), every=Moment("1 steps"))
    pruner.update(0, TIMELINE)
    layer = model.bert.encoder.layer[0].attention.self.query
    gone = (layer.weight == 0).nonzero()[0]
    with torch.no_grad():
        latent(layer)[tuple(gone)] = 9.0
    pruner.update(1, TIMELINE)
    assert layer.weight[tuple(gone)] == 9.0


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", ["neurons", "heads", "layers", "hidden"])
def test_a_masked_unit_is_absent(name, shape):
    """Whatever is put into the weights of a masked unit, the outputs stay."""
    model, pruner = attached(name, sparsity=Constant(0.5), shape=shape)
    pruner.update(0, TIMELINE)
    assert pruner.sparsity_now() == 0.5
    inputs, before = batch(name), model(**batch(name)).logits
    masks = steps(model, Mask)
    on = sum(mask.enabled for mask in masks.values())
    assert 0 < on < len(masks) if shape == "layers" else on == len(masks) > 0
    with torch.no_grad():
        for path, mask in masks.items():
            weight = latent(model.get_submodule(path.rsplit(".", 2)[0]), path.rsplit(".", 2)[1])
            weight.masked_fill_(~mask.mask, 7.0)
    assert torch.equal(model(**inputs).logits, before)


def test_a_masked_branch_adds_nothing():
    model, pruner = attached("bert", sparsity=Constant(0.5), shape="layers")
    assert list(pruner.weights)[:2] == ["bert.encoder.layer.0.intermediate.dense", "bert.encoder.layer.0.output.dense"]
    added = {}
    for i, layer in enumerate(model.bert.encoder.layer):
        for name, output in (("ffn", layer.output.dense), ("self", layer.attention.output.dense)):
            output.register_forward_hook(lambda module, args, out, key=f"encoder.{i}.{name}": added.update({key: out}))
    pruner.update(0, TIMELINE)
    model(**batch("bert"))
    zero = {name for name, output in added.items() if not output.any()}
    assert len(zero) == 2 and pruner.sparsity_now() == 0.5
    sizes = {name: sum(w.numel() for w in ws) for name, ws in _matrices(model).items()}
    assert Prune({"a": pruner}).sparsity == pytest.approx(sum(sizes[name] for name in zero) / sum(sizes.values()))


def _matrices(model) -> dict[str, list[torch.Tensor]]:
    found = {}
    for i, layer in enumerate(model.bert.encoder.layer):
        attention = layer.attention
        found[f"encoder.{i}.ffn"] = [latent(layer.intermediate.dense), latent(layer.output.dense)]
        projections = (attention.self.query, attention.self.key, attention.self.value, attention.output.dense)
        found[f"encoder.{i}.self"] = [latent(module) for module in projections]
    return found


def test_branches_of_unequal_size_are_ranked_by_the_mean_square_of_their_numbers():
    model = tiny("bert", intermediate=8)
    with torch.no_grad():
        # It has 8 times as many numbers as a feed-forward: its norm is larger still.
        for parameter in model.bert.encoder.layer[1].attention.parameters():
            parameter *= 0.7
    pruner = Magnitude(sparsity=Constant(0.25), shape="layers")
    pruner.attach(model)
    pruner.update(0, TIMELINE)
    assert not model.bert.encoder.layer[1].attention.output.dense.weight.any()
    assert model.bert.encoder.layer[0].output.dense.weight.any()


@pytest.mark.parametrize(("where", "most"), [(None, 3), (["attention"], 1), (["ffn"], 1)])
def test_one_of_the_branches_always_stays(where, most):
    _, pruner = attached("bert", sparsity=Constant(1.0), shape="layers", where=where)
    pruner.update(0, TIMELINE)
    assert sum(gone for gone, _ in (part.masked() for part in pruner.parts)) == most
    assert pruner.scope == "global" and pruner.where == (where or ["attention", "ffn"])


def test_the_weakest_head_goes():
    model = tiny("bert")
    block = model.bert.encoder.layer[0].attention
    with torch.no_grad():
        for layer in (block.self.query, block.self.key, block.self.value):
            layer.weight[8:16] *= 0.1
            layer.bias[8:16] *= 0.1
        block.output.dense.weight[:, 8:16] *= 0.1
    pruner = Magnitude(sparsity=Constant(0.25), shape="heads")
    pruner.attach(model)
    pruner.update(0, TIMELINE)
    assert (block.self.value.weight[8:16] == 0).all() and (block.self.value.bias[8:16] == 0).all()
    assert int((block.self.value.weight == 0).all(dim=1).sum()) == 8
    assert (block.output.dense.weight[:, 8:16] == 0).all()


def test_at_least_one_unit_of_each_block_stays():
    _, pruner = attached("bert", sparsity=Constant(1.0), shape="heads", scope="global")
    pruner.update(0, TIMELINE)
    assert pruner.sparsity_now() == 6 / 8


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
    assert all(pruner.sparsity_now() == 0.5 for pruner in pruners.values())
    assert 0.5 < Prune(pruners).sparsity < 0.75


def test_skipped_and_tied_units_are_listed():
    model = tiny("bert")
    model.bert.encoder.layer[1].output.dense.weight = model.bert.encoder.layer[0].output.dense.weight
    entries, units = Magnitude(sparsity=Constant(0.5)), Magnitude(sparsity=Constant(0.5), shape="neurons")
    entries.attach(copy.deepcopy(model))
    assert list(entries.skipped) == ["bert.encoder.layer.0.output.dense", "bert.encoder.layer.1.output.dense"]
    why = r"nothing to prune in ffn; encoder\.0\.ffn is left out, tied: .*; encoder\.1\.ffn is left out, tied: "
    with pytest.raises(ValueError, match=why):
        units.attach(model)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"shape": "heads", "where": ["ffn"]}, "where: heads are in attention only"),
        ({"shape": "neurons", "where": ["ffn", "head"]}, "where: neurons are in ffn only"),
        ({"shape": "layers", "where": ["ffn", "head"]}, "where: layers are in attention and ffn only"),
        ({"shape": "layers", "scope": "layer"}, "scope: layers are ranked over the whole model"),
        ({"where": []}, "where: "),
        ({"where": ["pooler"]}, "where: "),
        ({"shape": "rows"}, "shape: "),
        ({"shape": [4]}, "shape: "),
        ({"shape": [4, 0]}, "shape: "),
        ({"shape": "layers", "scope": "distribution"}, "scope: layers are ranked over the whole model"),
        ({"scope": "block"}, "scope: "),
        ({"scope": 1}, "scope: "),
        ({"scope": "row", "shape": "heads"}, "scope: row is for weights"),
    ],
)
def test_mistakes_name_their_field(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Magnitude(sparsity=Constant(0.5), **fields)


def test_the_schedule_is_checked_before_the_first_step():
    with pytest.raises(ValueError, match=r"^sparsity: "):
        Magnitude(sparsity=Cubic(to=80)).check(TIMELINE)
    with pytest.raises(ValueError, match="500 steps"):
        Magnitude(sparsity=Cubic(to=0.8, stop=Moment("500 steps"))).check(TIMELINE)
    Magnitude(sparsity=Cubic(to=1.0)).check(TIMELINE)


def trained(folder, stop: int, start: int = 0) -> tuple[Module, Prune]:
    window = {"start": Moment("3 steps"), "stop": Moment("9 steps")}
    prune = Prune(
        {
            "entries": Magnitude(sparsity=Cubic(to=0.6, **window), every=Moment("2 steps")),
            "neurons": Magnitude(sparsity=Cubic(to=0.5, **window), shape="neurons"),
            "layers": Magnitude(sparsity=Cubic(to=0.25, **window), shape="layers"),
        }
    )
    return fit(folder, prune, stop, start), prune


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, *trained(folder, 12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", [2, 4, 5, 8, 9, 11])
def test_a_resumed_run_is_the_run_bit_for_bit(uninterrupted, tmp_path, start):
    folder, whole, _ = uninterrupted
    checkpoint = f"at-step={start}.ckpt"
    (tmp_path / checkpoint).write_bytes((folder / checkpoint).read_bytes())
    resumed, _ = trained(tmp_path, 12, start)
    assert resumed.seen == whole.seen[start:]
    for (name, mine), theirs in zip(resumed.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    enabled = {name: mask.enabled for name, mask in steps(resumed, Mask).items()}
    assert enabled == {name: mask.enabled for name, mask in steps(whole, Mask).items()} and any(enabled.values())


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_hold_the_sparsity_of_their_step(uninterrupted):
    folder, _, prune = uninterrupted
    expected = {2: 0, 3: 0, 5: 0.6 * (1 - (4 / 6) ** 3), 6: 0.6 * (1 - (4 / 6) ** 3), 9: 0.6, 12: 0.6}
    path = "student.bert.encoder.layer.0.attention.self.query.parametrizations.weight.0.mask"
    for step, share in expected.items():
        mask = torch.load(folder / f"at-step={step}.ckpt")["state_dict"][path]
        assert int((~mask).sum()) == round(share * mask.numel())
    assert prune.pruners["entries"].sparsity_now() == pytest.approx(0.6, abs=1e-3)
    assert prune.pruners["neurons"].sparsity_now() == 0.5 and prune.pruners["layers"].sparsity_now() == 0.25
