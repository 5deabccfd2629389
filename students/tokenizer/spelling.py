"""The text of a token, and the tokens of a text within a word, for WordPiece, BPE and Unigram tokenizers."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPACE = "▁"
"""SentencePiece's mark of the beginning of a word."""
_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
"""{character of a byte-level token: byte}."""
BYTE_SPACE = next(character for character, byte in _BYTES.items() if byte == ord(" "))
"""The mark of the beginning of a word in byte-level tokens: ``Ġ``."""


class Spelling:
    """Translates between the tokens of a tokenizer and texts.

    Texts come with whether they begin a word: ``##ing`` of WordPiece, ``ing`` of BPE and Unigram do not; ``film`` of
    WordPiece, ``Ġfilm`` and ``▁film`` do.

    Args:
        tokenizer: a fast tokenizer.

    Raises:
        ValueError: if its type is not supported.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        if not tokenizer.is_fast:
            raise ValueError("the tokenizer is not of the `tokenizers` library; only a fast tokenizer can be used")
        self.tokenizer, self.backend = tokenizer, tokenizer.backend_tokenizer
        state = json.loads(self.backend.to_str())
        model: dict[str, Any] = state["model"]
        if model["type"] not in ("WordPiece", "BPE", "Unigram"):
            raise ValueError(f"a {model['type']} tokenizer has no pieces of words")
        if model.get("end_of_word_suffix") or (model["type"] == "BPE" and model.get("continuing_subword_prefix")):
            raise ValueError("a BPE tokenizer that marks the end or the inside of words is not supported")
        self.prefix: str = model["continuing_subword_prefix"] if model["type"] == "WordPiece" else ""
        """The mark of a token inside a word; empty if tokens at the beginning of words are marked instead."""
        self.is_byte_level = '"ByteLevel"' in json.dumps([state["pre_tokenizer"], state["decoder"]])
        self.mark = "" if self.prefix else BYTE_SPACE if self.is_byte_level else SPACE
        self.vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.special = set(tokenizer.all_special_ids) | {token["id"] for token in state["added_tokens"]}

    def text(self, token: int) -> tuple[str, bool] | None:
        """Return the text of a token and whether it begins a word; None without a text of its own."""
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            return None
        if self.prefix:
            begins = not piece.startswith(self.prefix)
            return piece.removeprefix(self.prefix), begins
        begins, piece = piece.startswith(self.mark), piece.removeprefix(self.mark)
        if self.is_byte_level:
            data = bytes(_BYTES[character] for character in piece if character in _BYTES)
        elif len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            data = bytes([int(piece[3:5], 16)])
        else:
            data = piece.encode()
        try:
            text = data.decode()
        except UnicodeDecodeError:  # a part of a character
            return None
        return (text, begins) if text.strip() else None

    def pieces(self, text: str, begins: bool) -> list[int]:
        """Return the tokens of a text without spaces; empty if one of its words is unknown.

        Args:
            text: a word, a part of one, or marks.
            begins: whether it begins a word.
        """
        exact = self.vocabulary.get(self._marked(text, begins))
        if exact is not None:
            return [exact]
        tokens: list[int] = []
        for number, word in enumerate(self._words(text)):
            is_first = begins if number == 0 else bool(self.prefix)
            tokens += self._word_pieces(word, is_first)
        unknown = self.tokenizer.unk_token_id
        return [] if unknown in tokens else tokens

    def _marked(self, text: str, begins: bool) -> str:
        if self.prefix:
            return text if begins or _is_marks(text) else self.prefix + text
        inner = "".join(bytes_to_unicode()[byte] for byte in text.encode()) if self.is_byte_level else text
        return self.mark + inner if begins else inner

    def _words(self, text: str) -> list[str]:
        """Return a text as normalizer and pre-tokenizer hand it to the model, without a mark at its beginning."""
        normalizer, splitter = self.backend.normalizer, self.backend.pre_tokenizer
        text = normalizer.normalize_str(text) if normalizer else text
        words = [word for word, _ in splitter.pre_tokenize_str(text)] if splitter else [text]
        if self.mark and words:
            words[0] = words[0].removeprefix(self.mark)
        return [word for word in words if word]

    def _word_pieces(self, word: str, begins: bool) -> list[int]:
        if not self.prefix:
            return [token.id for token in self.backend.model.tokenize(self.mark + word if begins else word)]
        tokens, start = [], 0
        while start < len(word):
            mark = "" if (start == 0 and begins) or _is_marks(word) else self.prefix
            ends = range(len(word), start, -1)
            found = next((end for end in ends if mark + word[start:end] in self.vocabulary), None)
            if found is None:
                return [self.tokenizer.unk_token_id]
            tokens.append(self.vocabulary[mark + word[start:found]])
            start = found
        return tokens


def _is_marks(text: str) -> bool:
    """Return whether a text is of punctuation and symbols alone, which stand as words of their own in WordPiece."""
    return all(unicodedata.category(character)[0] in "PS" for character in text)
