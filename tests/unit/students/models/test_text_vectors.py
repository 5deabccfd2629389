"""A vector of a text: each pooling as the sentence-transformers library has it, and files of a plain model."""

import json

import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling as LibraryPooling
from transformers import AutoModel, BertConfig, BertModel, GPT2Config, T5Config

from students.models.pooling import Pooling, write_pooling
from students.models.text_vectors import AutoModelForVectors, text_vectors, vector_model
from students.recording.model_io import model_inputs

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]])
"""Padding on the right, on the left, and none."""


@pytest.mark.parametrize("mode", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalize", [False, True])
def test_pooling_is_that_of_the_library(mode, normalize):
    states = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(0))
    features = {"token_embeddings": states, "attention_mask": MASK}
    library = LibraryPooling(8, {"last": "lasttoken"}.get(mode, mode))
    expected = library(features)
    expected = (Normalize()(expected) if normalize else expected)["sentence_embedding"]
    vectors = text_vectors(states, MASK, Pooling(mode, normalize))
    # The library takes the first place for the first token, and of a text padded on the left that is padding.
    rows = [0, 1, 3] if mode == "cls" else [0, 1, 2, 3]
    torch.testing.assert_close(vectors[rows], expected[rows])
    if mode == "cls" and not normalize:
        torch.testing.assert_close(vectors[2], states[2, 2])


@pytest.mark.parametrize("mode", ["mean", "cls", "last"])
def test_padding_may_hold_anything(mode):
    states = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(0))
    expected = text_vectors(states, MASK, Pooling(mode))
    states[MASK == 0] = torch.inf
    torch.testing.assert_close(text_vectors(states, MASK, Pooling(mode)), expected)


def test_a_text_without_a_mask_has_no_padding():
    model = vector_model(BertModel, Pooling())(BertConfig(**SIZES)).eval()
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(model(ids).logits, model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)


def test_its_files_are_those_of_a_plain_model_without_a_pooler(tmp_path):
    model = vector_model(BertModel, Pooling("mean", True))(BertConfig(**SIZES)).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    inputs = {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    states = AutoModel.from_pretrained(tmp_path).eval()(**inputs).last_hidden_state
    vectors = text_vectors(states, inputs["attention_mask"], Pooling("mean", True))
    torch.testing.assert_close(model(**inputs).logits, vectors)
    assert not any("pooler" in name for name, _ in model.named_parameters())
    assert model_inputs(model, inputs | {"labels": inputs["input_ids"]}).keys() == inputs.keys()


def test_the_pooling_of_a_folder_is_taken_unless_one_is_given(tmp_path):
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    assert AutoModelForVectors().from_pretrained(tmp_path).pooling == Pooling()
    write_pooling(tmp_path, Pooling("cls", True), 16)
    assert AutoModelForVectors().from_pretrained(tmp_path).pooling == Pooling("cls", True)
    assert AutoModelForVectors("last", False).from_pretrained(tmp_path).pooling == Pooling("last", False)
    model, info = AutoModelForVectors().from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not model.pooler


def test_a_decoder_can_be_pooled_at_its_last_token():
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    model = AutoModelForVectors("last").from_config(config).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    padded = torch.tensor([[5, 6, 7, 8, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    torch.testing.assert_close(model(input_ids=padded, attention_mask=mask).logits, model(input_ids=ids).logits)


def test_an_encoder_decoder_is_refused():
    with pytest.raises(ValueError, match="a t5 has a decoder, and no vector of a text"):
        AutoModelForVectors().from_config(T5Config(d_model=16))
