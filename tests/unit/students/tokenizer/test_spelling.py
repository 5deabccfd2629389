"""Texts of tokens and tokens of texts, for the three types of tokenizers."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from students.tokenizer.spelling import Spelling
from tests.helpers.students.other_tokenizers import MADE, made


@pytest.mark.parametrize("name", MADE)
def test_a_text_of_a_token_gives_the_token_again(name):
    spelling = Spelling(made(name))
    checked = 0
    for token in range(len(spelling.tokenizer)):
        word = None if token in spelling.special else spelling.text(token)
        if word is not None:
            assert spelling.pieces(*word) == [token], word
            checked += 1
    assert checked > 40


@pytest.mark.parametrize("name", MADE)
def test_a_word_has_the_tokens_that_the_tokenizer_gives_it(name):
    spelling = Spelling(made(name))
    for word in ("warm", "unwarmly", "film", "scripted", "moviefilm"):
        expected = spelling.tokenizer(f"a {word}", add_special_tokens=False)["input_ids"]
        first = spelling.tokenizer("a", add_special_tokens=False)["input_ids"]
        assert spelling.pieces(word, True) == expected[len(first) :], word


def test_marks_of_words():
    wordpiece, byte_level, unigram = (Spelling(made(name)) for name in MADE)
    ids = wordpiece.vocabulary
    assert wordpiece.text(ids["film"]) == ("film", True) and wordpiece.text(ids["##s"]) == ("s", False)
    ids = byte_level.vocabulary
    assert byte_level.text(ids["Ġfilm"]) == ("film", True) and byte_level.text(ids["s"]) == ("s", False)
    assert byte_level.text(ids["Ã"]) is None, "a part of a character"
    assert byte_level.text(ids["Ġ"]) is None, "a space"
    ids = unigram.vocabulary
    assert unigram.text(ids["▁film"]) == ("film", True)


def test_punctuation_is_a_word_in_wordpiece():
    spelling = Spelling(made("WordPiece"))
    assert spelling.pieces(".", False) == [spelling.vocabulary["."]]
    assert spelling.pieces("film.", True) == [spelling.vocabulary["film"], spelling.vocabulary["."]]


def test_unknown_texts_have_no_tokens():
    assert Spelling(made("WordPiece")).pieces("映画", True) == []


def test_other_types_are_refused(tmp_path: Path):
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ValueError, match="a WordLevel tokenizer has no pieces of words"):
        Spelling(PreTrainedTokenizerFast(tokenizer_object=words))
    ends = Tokenizer(models.BPE({"a": 0, "a</w>": 1}, [], end_of_word_suffix="</w>"))
    with pytest.raises(ValueError, match="marks the end or the inside of words"):
        Spelling(PreTrainedTokenizerFast(tokenizer_object=ends))
