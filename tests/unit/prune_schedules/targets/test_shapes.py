"""Neurons, heads and layers that are masked: they are absent, which go, which always stay, and what is refused."""

import copy

import pytest
import torch

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant
from prune_schedules.scores.magnitude import Magnitude
from students.weights import raw_parameter
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.models import mask


def test_a_masked_branch_adds_nothing():
    model = tiny("bert")
    pruner = mask(model, 0.5, "layers")
    assert list(pruner.weights)[:2] == ["bert.encoder.layer.0.intermediate.dense", "bert.encoder.layer.0.output.dense"]
    added = {}
    for i, layer in enumerate(model.bert.encoder.layer):
        for name, output in (("ffn", layer.output.dense), ("self", layer.attention.output.dense)):
            output.register_forward_hook(lambda module, args, out, key=f"encoder.{i}.{name}": added.update({key: out}))
    model(**batch("bert"))
    zero = {name for name, output in added.items() if not output.any()}
    assert len(zero) == 2 and pruner.current_sparsity() == 0.5
    sizes = {name: sum(w.numel() for w in ws) for name, ws in _matrices(model).items()}
    assert Prune({"a": pruner}).sparsity == pytest.approx(sum(sizes[name] for name in zero) / sum(sizes.values()))


def _matrices(model) -> dict[str, list[torch.Tensor]]:
    tensors = {}
    for i, layer in enumerate(model.bert.encoder.layer):
        attention = layer.attention
        tensors[f"encoder.{i}.ffn"] = [raw_parameter(layer.intermediate.dense), raw_parameter(layer.output.dense)]
        projections = (attention.self.query, attention.self.key, attention.self.value, attention.output.dense)
        tensors[f"encoder.{i}.self"] = [raw_parameter(module) for module in projections]
    return tensors


def test_branches_of_unequal_size_are_ranked_by_the_mean_square_of_their_numbers():
    model = tiny("bert", intermediate=8)
    with torch.no_grad():
        # It has 8 times as many numbers as a feed-forward: its norm is larger still.
        for parameter in model.bert.encoder.layer[1].attention.parameters():
            parameter *= 0.7
    mask(model, 0.25, "layers")
    assert not model.bert.encoder.layer[1].attention.output.dense.weight.any()
    assert model.bert.encoder.layer[0].output.dense.weight.any()


@pytest.mark.parametrize(("where", "most"), [(None, 3), (["attention"], 1), (["ffn"], 1)])
def test_one_of_the_branches_always_stays(where, most):
    pruner = mask(tiny("bert"), 1.0, "layers", where=where)
    assert sum(gone for gone, _ in (part.count_masked() for part in pruner.targets)) == most
    assert pruner.scope == "global" and pruner.where == (where or ["attention", "ffn"])


def test_the_weakest_head_goes():
    model = tiny("bert")
    block = model.bert.encoder.layer[0].attention
    with torch.no_grad():
        for layer in (block.self.query, block.self.key, block.self.value):
            layer.weight[8:16] *= 0.1
            layer.bias[8:16] *= 0.1
        block.output.dense.weight[:, 8:16] *= 0.1
    mask(model, 0.25, "heads")
    assert (block.self.value.weight[8:16] == 0).all() and (block.self.value.bias[8:16] == 0).all()
    assert int((block.self.value.weight == 0).all(dim=1).sum()) == 8
    assert (block.output.dense.weight[:, 8:16] == 0).all()


def test_at_least_one_unit_of_each_block_stays():
    assert mask(tiny("bert"), 1.0, "heads", "global").current_sparsity() == 6 / 8


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
        ({"scope": "row", "shape": "heads"}, "scope: row is for elements and tiles"),
    ],
)
def test_mistakes_name_their_field(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Magnitude(sparsity=Constant(0.5), **fields)
