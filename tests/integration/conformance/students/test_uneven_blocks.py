"""Models with blocks of different sizes, in every family: saved, loaded, and with the facts of the family."""

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
)

from students.families.families import blocks, depth, family
from students.structure.resized import block_sizes
from tests.helpers.families import batch, tiny
from tests.helpers.students.uneven import uneven


def test_saved_and_loaded_it_is_the_same_model(name, tmp_path):
    model, inputs = uneven(name), batch(name)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(model) and loaded.config.model_type == f"compact-{name}"
    assert (
        block_sizes(loaded)
        == block_sizes(model)
        == loaded.config.block_sizes
        == AutoConfig.from_pretrained(tmp_path).block_sizes
    )
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-6)


def test_the_facts_of_the_family_hold(name):
    model = uneven(name)
    assert family(model.config) is family(tiny(name).config)
    assert len(blocks(model)) == depth(model.config) == 2
