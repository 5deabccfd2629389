"""Neurons and heads that are zero are cut out of every family: no output changes, and the model is saved."""

import torch
from transformers import AutoModelForSequenceClassification

from prune_schedules.structure.cut import cut
from students.structure.units import heads, neurons
from tests.helpers.families import batch
from tests.helpers.pruning.folded import pruned


def test_cutting_changes_no_output(name):
    model, inputs = pruned(name, {"elements": 0.3, "neurons": 0.5, "heads": 0.5}, scope="global"), batch(name)
    before, size = model(**inputs).logits, model.num_parameters()
    report = cut(model)
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
    assert report.parameters == (size, model.num_parameters()) and model.num_parameters() < 0.85 * size
    assert not report.is_stock
    left = {units.name: units.count for units in neurons(model) + heads(model)}
    assert left == {name: count for name, (_, count) in report.units.items()}
    cut_neurons = [pair for name, pair in report.units.items() if name.endswith(".ffn")]
    assert sum(after for _, after in cut_neurons) == 0.5 * sum(before for before, _ in cut_neurons)


def test_equal_neurons_and_all_heads_stay_a_stock_model(name, tmp_path):
    model, inputs = pruned(name, {"neurons": 0.25}), batch(name)
    stock, before = type(model), model(**inputs).logits
    assert cut(model).is_stock and type(model) is stock
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is stock and {units.count for units in neurons(loaded)} == {48}
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-6)
