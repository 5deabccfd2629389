"""The vocabulary of another tokenizer, its embeddings started from the old ones: against a recomputation in float64."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from students.kinds.transformer import Transformer
from students.tokenizer.transfer import change_vocabulary, mean_rows, token_sources, transfer_vocabulary
from tests.helpers.families import tiny
from tests.helpers.repositories import save_tiny_bert
from tests.helpers.students.other_tokenizers import MADE, made, save_byte_level

PAIRS = [(old, new) for old, new in product(MADE, MADE) if old != new]
WORDS = ("warm", "film", "films", "scripted", "unwarm")


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_word_starts_as_the_mean_of_its_old_tokens(old, new):
    """Words that the new tokenizer has as one token; their old tokens are what the old tokenizer says of them."""
    before, after = made(old), made(new)
    model = tiny("bert", vocab=len(before))
    table = model.get_input_embeddings().weight.detach().double().numpy().copy()
    transfer_vocabulary(model, before, after)
    rows = model.get_input_embeddings().weight.detach().double().numpy()
    assert rows.shape == (len(after), table.shape[1])
    skipped = len(before("a", add_special_tokens=False)["input_ids"])
    compared = set()
    for word in WORDS:
        ids = after(f"a {word}", add_special_tokens=False)["input_ids"][
            len(after("a", add_special_tokens=False)["input_ids"]) :
        ]
        if len(ids) == 1:
            pieces = before(f"a {word}", add_special_tokens=False)["input_ids"][skipped:]
            np.testing.assert_allclose(rows[ids[0]], table[pieces].mean(0), rtol=0, atol=1e-7)
            compared.add(len(pieces))
    assert compared


@pytest.mark.parametrize("name", MADE)
def test_the_same_vocabulary_changes_nothing(name):
    tokenizer = made(name)
    assert token_sources(tokenizer, tokenizer)[tokenizer.pad_token_id] == [tokenizer.pad_token_id]
    model = tiny("bert", vocab=len(tokenizer))
    before = model.get_input_embeddings().weight.detach().clone()
    transfer_vocabulary(model, tokenizer, tokenizer)
    after = model.get_input_embeddings().weight.detach()
    spelled = [i for i, ids in enumerate(token_sources(tokenizer, tokenizer)) if ids]
    assert len(spelled) > len(tokenizer) // 3
    assert torch.equal(after[spelled], before[spelled])
    without = [i for i, ids in enumerate(token_sources(tokenizer, tokenizer)) if not ids]
    assert (name == "WordPiece" and not without) or torch.allclose(after[without], before.mean(0), atol=1e-6)


def test_special_tokens_have_the_row_of_their_role():
    wordpiece, byte_level = made("WordPiece"), made("BPE")
    sources = token_sources(wordpiece, byte_level)
    assert sources[byte_level.bos_token_id] == [wordpiece.cls_token_id]
    assert sources[byte_level.eos_token_id] == [wordpiece.sep_token_id]
    assert sources[byte_level.pad_token_id] == [wordpiece.pad_token_id]
    sources = token_sources(byte_level, wordpiece)
    assert sources[wordpiece.cls_token_id] == [byte_level.bos_token_id]
    assert sources[wordpiece.sep_token_id] == [byte_level.eos_token_id]
    assert sources[wordpiece.mask_token_id] == [], "no token has its role, so it starts as the mean of all"


def test_means_and_tokens_without_a_source():
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [8.0, 0.0]])
    means = mean_rows(table, [[1], [0, 2], [0, 1, 1, 2], []])
    torch.testing.assert_close(means, torch.tensor([[3.0, 4.0], [4.5, 1.0], [3.75, 2.5], [4.0, 2.0]]))
    assert torch.equal(mean_rows(table[:, 0], [[2], []]), torch.tensor([8.0, 4.0]))


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5", "llama"])
def test_ties_heads_and_ids_follow(family):
    old, new = made("WordPiece"), made("BPE")
    model = tiny(family, vocab=len(old), head="language")
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head.weight is embeddings.weight
    model.config.eos_token_id = 1
    positions = {
        name: value.clone() for name, value in model.state_dict().items() if "position" in name or "wpe" in name
    }
    expected = mean_rows(head.weight.detach(), token_sources(old, new))
    bias = None if head.bias is None else mean_rows(head.bias.detach(), token_sources(old, new))
    transfer_vocabulary(model, old, new)
    head = model.get_output_embeddings()
    assert (head.weight is model.get_input_embeddings().weight) == is_tied
    torch.testing.assert_close(head.weight.detach(), expected)
    assert bias is None or torch.allclose(head.bias, bias)
    assert model.config.vocab_size == len(new) and model.config.pad_token_id == new.pad_token_id
    assert model.config.eos_token_id == new.eos_token_id
    assert all(torch.equal(model.state_dict()[name], value) for name, value in positions.items())


def test_positions_that_are_counted_from_the_padding_are_not_moved():
    old, new = made("WordPiece"), made("BPE")
    model = tiny("roberta", vocab=len(old))
    message = f"counts positions from the id of its padding token, 1, and this tokenizer's is {new.pad_token_id}"
    with pytest.raises(ValueError, match=message):
        transfer_vocabulary(model, old, new)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BERT with WordPiece, and a byte-level tokenizer without a model."""
    save_tiny_bert(tmp_path / "teacher", layers=2, hidden=32, heads=4, labels=["bad", "good"])
    save_byte_level(tmp_path / "bytes")
    return tmp_path


def test_a_student_is_saved_with_the_tokenizer_and_loads_again(folder):
    teacher = AutoModelForSequenceClassification.from_pretrained(folder / "teacher")
    made = Transformer(layers=1, hidden=16, tokenizer=str(folder / "bytes")).build(teacher, None, None).eval()
    assert made.config.vocab_size == len(AutoTokenizer.from_pretrained(folder / "bytes"))
    assert teacher.config.vocab_size == len(AutoTokenizer.from_pretrained(folder / "teacher"))
    made.save_pretrained(folder / "student")
    loaded = AutoModelForSequenceClassification.from_pretrained(folder / "student").eval()
    ids = torch.tensor([[260, 270, 280]])
    torch.testing.assert_close(made(ids).logits, loaded(ids).logits, rtol=0, atol=1e-6)


def test_random_weights_have_the_size_alone(folder):
    teacher = AutoModelForSequenceClassification.from_pretrained(folder / "teacher")
    student = Transformer(layers=1, weights="random", tokenizer=str(folder / "bytes")).build(teacher, None, None)
    assert student.config.vocab_size == student.get_input_embeddings().num_embeddings == 300


def test_what_cannot_be_is_said_in_one_line(folder):
    with pytest.raises(ValueError, match="^tokenizer: .*/empty' holds no tokenizer: it has no tokenizer.json and no"):
        (folder / "empty").mkdir()
        change_vocabulary(tiny("bert"), str(folder / "empty"), str(folder / "teacher"))
    with pytest.raises(ValueError, match="^tokenizer: the teacher was not loaded by a name, so its own tokenizer is"):
        change_vocabulary(tiny("bert"), str(folder / "bytes"), "")
