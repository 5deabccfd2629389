import copy
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from students.structure.places import select_modules
from students.weights import (
    add_weight_transform,
    find_weight_transforms,
    fold,
    out_axis,
    parameter_names,
    raw_parameter,
)
from tests.helpers.families import batch, tiny


class Double(nn.Module):
    order: ClassVar[int] = 0

    def forward(self, weight):
        return 2 * weight


class PlusOne(nn.Module):
    order: ClassVar[int] = 1

    def forward(self, weight):
        return weight + 1


def test_embeddings_are_the_tables_outside_the_blocks():
    assert len(select_modules(tiny("bert"), ["embeddings"])[0]) == 3
    assert len(select_modules(tiny("gpt2"), ["embeddings"])[0]) == 2


def test_tied_weights_are_skipped_with_the_reason():
    chosen, skipped = select_modules(tiny("t5"), ["embeddings"])
    assert chosen == {}
    assert skipped["transformer.shared"].startswith("tied to transformer.encoder.embed_tokens.weight")
    chosen, skipped = select_modules(tiny("gpt2", head="language"), ["head"])
    assert chosen == {} and skipped == {"lm_head": "tied to transformer.wte.weight"}


def test_the_choice_is_the_same_once_steps_are_on():
    model = tiny("gpt2")
    before, _ = select_modules(model, ["attention", "embeddings"])
    for module in before.values():
        add_weight_transform(module, Double())
    assert select_modules(model, ["attention", "embeddings"])[0] == before


def test_a_linear_layer_of_unknown_place_is_named():
    model = tiny("bert")
    model.bert.encoder.layer[0].output.extra = nn.Linear(4, 4)
    assert "bert.encoder.layer.0.output.extra" in select_modules(model, ["ffn"])[1]


def test_out_axis():
    assert out_axis(nn.Linear(2, 3)) == 0 and out_axis(Conv1D(3, 2)) == 1


def test_steps_chain_in_their_order_and_only_so():
    layer = nn.Linear(3, 2)
    weight = layer.weight.detach().clone()
    add_weight_transform(layer, Double())
    add_weight_transform(layer, Double())
    add_weight_transform(layer, PlusOne())
    torch.testing.assert_close(layer.weight, 4 * weight + 1)
    assert torch.equal(raw_parameter(layer), weight)
    with pytest.raises(ValueError, match="Double must come before PlusOne"):
        add_weight_transform(layer, Double())
    assert list(find_weight_transforms(layer, Double)) == ["weight.0", "weight.1"]
    assert list(find_weight_transforms(layer, PlusOne)) == ["weight.2"]


def test_uses_names_a_tied_weight_twice():
    model = tiny("gpt2", head="language")
    assert parameter_names(model)[id(model.lm_head.weight)] == ["transformer.wte.weight", "lm_head.weight"]


@pytest.mark.parametrize("name", ["bert", "gpt2", "albert"])
def test_fold_keeps_the_outputs_and_leaves_a_plain_model(name, tmp_path):
    model = tiny(name)
    for module in select_modules(model, ["attention", "ffn", "embeddings"])[0].values():
        add_weight_transform(module, Double())
        add_weight_transform(module, PlusOne())
    inputs = batch(name)
    before = model(**inputs).logits
    model.train()
    fold(model)
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    assert torch.equal(model.eval()(**inputs).logits, before)
    assert torch.equal(copy.deepcopy(model)(**inputs).logits, before)
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForSequenceClassification.from_pretrained(tmp_path)(**inputs).logits, before)


def test_fold_keeps_ties_where_every_use_has_the_step():
    model = tiny("gpt2", head="language")
    expected = 2 * model.lm_head.weight.detach()
    add_weight_transform(model.lm_head, Double())
    add_weight_transform(model.transformer.wte, Double())
    fold(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert torch.equal(model.lm_head.weight, expected)


def test_fold_refuses_a_tie_that_only_one_use_would_change():
    model = tiny("gpt2", head="language")
    add_weight_transform(model.lm_head, Double())
    with pytest.raises(ValueError, match="are one weight"):
        fold(model)


def test_bias_and_weight_of_one_layer_both_fold():
    layer = nn.Linear(3, 2)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    add_weight_transform(layer, Double())
    add_weight_transform(layer, PlusOne(), "bias")
    fold(layer)
    assert type(layer) is nn.Linear
    assert torch.equal(layer.weight, 2 * weight) and torch.equal(layer.bias, bias + 1)
