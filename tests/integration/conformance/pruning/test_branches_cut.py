"""Whole attentions and feed-forwards are cut out of every family: saved, loaded, trained and recorded."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from prune_schedules.structure.cut import cut, nonzero_units
from students.families.families import family
from students.structure.resized import block_sizes
from students.structure.units import branches, heads, neurons
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.branches import empty, gone, home_of, traced


@settings(deadline=None, max_examples=6, database=None)
@given(st.data())
def test_whatever_is_zero_leaves_and_no_output_changes(name, data):
    model, inputs = tiny(name), batch(name)
    names = [units.name for units in branches(model)]
    zero = set(data.draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names) - 1)))
    units = data.draw(st.sampled_from(neurons(model)))
    some = torch.tensor(data.draw(st.lists(st.booleans(), min_size=units.count, max_size=units.count)))
    empty(model, zero)
    with torch.no_grad():
        for part in units.slices:
            entries = getattr(part.module, part.name).movedim(part.axis, 0)
            entries[part.start : part.start + units.count * part.size][some.repeat_interleave(part.size)] = 0
    before, size = model(**inputs).logits, model.num_parameters()
    report = cut(model)
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
    left = {units.name: units.count for units in neurons(model) + heads(model)}
    assert left == {name: after for name, (_, after) in report.units.items()}
    assert report.parameters == (size, model.num_parameters())
    stay = {name for name in zero if home_of(name) == "attention" and family(model.config).has_fixed_heads}
    assert {name for name in zero if left[name]} <= stay | {"decoder.0.self"}
    assert all(bool(nonzero_units(units).all()) for units in neurons(model))


def test_saved_and_loaded_it_is_the_same_model(name, tmp_path):
    model, inputs = gone(name), batch(name)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert block_sizes(loaded) == block_sizes(model)
    assert name == "albert" or any(
        block["intermediate"] == 0 for stack in block_sizes(loaded).values() for block in stack
    )
    assert getattr(AutoConfig.from_pretrained(tmp_path), "block_sizes", None) == getattr(
        model.config, "block_sizes", None
    )
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    assert [(key, p.shape) for key, p in loaded.named_parameters()] == [
        (key, p.shape) for key, p in model.named_parameters()
    ]


def test_every_parameter_that_is_left_gets_a_gradient(name):
    """DDP waits for all of them."""
    model = gone(name).train()
    model(**batch(name)).loss.backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    torch.optim.AdamW(model.parameters(), lr=1e-2).step()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert torch.isfinite(model(**batch(name)).logits).all()


def test_it_is_traced(name):
    model = gone(name)
    assert torch.equal(traced(model, name).logits, model(**batch(name)).logits)
