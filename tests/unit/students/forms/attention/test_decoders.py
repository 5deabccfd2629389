"""Decoders with another attention see nothing that comes, and write the same with a cache."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from students.forms.attention import (
    FixedAttention,
    LinearAttention,
    LocalAttention,
    Performer,
)
from tests.helpers.families import tiny
from tests.helpers.students.attentions import logits, long, student


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", [LocalAttention, FixedAttention, LinearAttention, Performer])
def test_a_decoder_does_not_see_what_comes(kind, name):
    model, inputs = student(kind, name, head="language"), long(name, size=1, head="language")
    other = inputs["input_ids"].clone()
    other[:, 60:] = 7
    actual, changed = (logits(model, {"input_ids": ids}) for ids in (inputs["input_ids"], other))
    torch.testing.assert_close(actual[:, :60], changed[:, :60], rtol=0, atol=1e-5)
    assert not torch.allclose(actual[:, 60:], changed[:, 60:], atol=1e-2)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", [LocalAttention, FixedAttention, LinearAttention, Performer])
def test_it_writes_the_same_with_a_cache_and_without(kind, name):
    model = student(kind, name, head="language", teacher=tiny(name, head="language"))
    ids = long(name, size=1, length=30, head="language")["input_ids"]
    given = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = model.generate(ids, use_cache=False, **given)
    assert torch.equal(model.generate(ids, **given), expected)
    padded = torch.cat([torch.zeros(1, 9, dtype=torch.long), ids], 1)
    mask = (torch.arange(39) >= 9).long()[None]
    if kind is FixedAttention:
        with pytest.raises(ValueError, match="pad on the right"):
            model.generate(padded, attention_mask=mask, **given)
    else:
        assert torch.equal(model.generate(padded, attention_mask=mask, **given)[:, 9:], expected)
    with pytest.raises(ValueError, match="a cache of fixed size"):
        model.generate(ids, cache_implementation="static", **given)


def test_several_texts_in_one_row_are_refused():
    positions = torch.cat([torch.arange(6), torch.arange(4)])[None]
    with pytest.raises(ValueError, match="several texts in one row"):
        student(LocalAttention, "llama")(input_ids=torch.full((1, 10), 9), position_ids=positions, use_cache=False)


def test_a_mask_of_pairs_is_refused():
    with pytest.raises(ValueError, match="takes no mask of token pairs"):
        student(LocalAttention)(torch.full((1, 10), 9), torch.ones(1, 1, 10, 10))


def test_a_saved_decoder_writes_the_same(tmp_path):
    model = student(LocalAttention, "gpt2", head="language")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    inputs = long("gpt2", head="language")
    torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs), rtol=0, atol=1e-6)
