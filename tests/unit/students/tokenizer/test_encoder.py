"""The second encoding of a text, and of the text that changed tokens of another tokenizer spell."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from students.tokenizer.encoder import TextEncoder
from tests.helpers.students.other_tokenizers import save_byte_level


@pytest.fixture
def byte_level(tmp_path: Path) -> PreTrainedTokenizerBase:
    save_byte_level(tmp_path / "bytes")
    return AutoTokenizer.from_pretrained(tmp_path / "bytes")


def test_texts_and_pairs_are_those_of_the_tokenizer(tokenizer, byte_level):
    assert TextEncoder(byte_level, 100).encode(["a warm film"])["input_ids"] == [byte_level("a warm film")["input_ids"]]
    short = TextEncoder(tokenizer, 5).encode(["a warm and funny film"], ["a plot"])
    assert [len(ids) for ids in short["input_ids"]] == [5] and short["token_type_ids"][0][-1] == 1
    assert "attention_mask" in TextEncoder(byte_level, 4).encode(["a warm film"])


def test_changed_tokens_are_read_as_the_text_that_they_spell(tokenizer, byte_level):
    encoder = TextEncoder(byte_level, 100)

    def spelled(ids: list[int], texts: int = 1) -> str:
        return byte_level.decode(encoder.encode_tokens(ids, tokenizer, texts)["input_ids"])

    ids = tokenizer("a warm unlovely film")["input_ids"]
    assert spelled(ids) == "a warm unlovely film"
    assert spelled([ids[0], *ids[2:]]) == "warm unlovely film"
    inside = [ids[0], ids[4], ids[5], ids[-1]]
    assert spelled(inside) == tokenizer.decode(inside, skip_special_tokens=True).removeprefix("##")
    pair = tokenizer("a film", "a plot")["input_ids"]
    assert spelled(pair, 2) == "a filma plot", "byte-level tokens have nothing between two texts"
    assert encoder.encode_tokens([], tokenizer, 2)["input_ids"] == []


def test_masked_and_unknown_tokens_become_the_teachers_or_are_left_out(tokenizer, byte_level):
    mask, unknown = tokenizer.mask_token_id, tokenizer.unk_token_id
    ids = tokenizer("a warm film")["input_ids"]
    masked = [*ids[:2], mask, *ids[3:]]
    assert TextEncoder(tokenizer, 9).encode_tokens(masked, tokenizer, 1)["input_ids"] == masked
    read = TextEncoder(byte_level, 9).encode_tokens(masked, tokenizer, 1)["input_ids"]
    assert byte_level.decode(read) == "a film"
    read = TextEncoder(byte_level, 9).encode_tokens([*ids[:2], unknown, *ids[3:]], tokenizer, 1)["input_ids"]
    assert byte_level.unk_token_id in read
