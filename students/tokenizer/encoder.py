"""A second encoding of texts: the tokens of a teacher whose tokenizer is not the student's."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSIDE = "##"
"""WordPiece's mark of a token inside a word, which decoding leaves at the beginning of a text."""


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts, or pairs of texts, for one teacher.

    Args:
        tokenizer: the teacher's.
        max_length: longer texts are truncated to this number of its tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int

    def encode(self, *columns: list[str]) -> dict[str, list[list[int]]]:
        """Return the inputs of a batch of texts, or of pairs given as two columns; always with ``attention_mask``."""
        return dict(self.tokenizer(*columns, truncation=True, max_length=self.max_length, return_attention_mask=True))

    def encode_tokens(self, ids: list[int], tokenizer: PreTrainedTokenizerBase, num_texts: int) -> dict[str, list[int]]:
        """Return the inputs of the text, or pair, that the tokens of another tokenizer spell.

        Mask and unknown tokens become the teacher's; if it has none, they are left out. Texts are separated by the
        other special tokens.

        Args:
            ids: the tokens, with special ones.
            tokenizer: their tokenizer.
            num_texts: 1, or 2 of a pair; texts that are missing are empty.
        """
        inner = {tokenizer.mask_token_id: self.tokenizer.mask_token, tokenizer.unk_token_id: self.tokenizer.unk_token}
        separators = set(tokenizer.all_special_ids) - inner.keys()
        runs = groupby(ids, key=lambda token: token in separators)
        texts = [self._spell(list(tokens), tokenizer, inner) for is_separator, tokens in runs if not is_separator]
        columns = [[text] for text in (texts + [""] * num_texts)[:num_texts]]
        return {name: values[0] for name, values in self.encode(*columns).items()}

    @staticmethod
    def _spell(ids: list[int], tokenizer: PreTrainedTokenizerBase, inner: dict[int | None, str | None]) -> str:
        parts = []
        for is_inner, run in groupby(ids, key=lambda token: token in inner):
            tokens = list(run)
            text = [inner[token] or "" for token in tokens] if is_inner else [tokenizer.decode(tokens)]
            parts += [part.strip().removeprefix(INSIDE) for part in text]
        return " ".join(part for part in parts if part)
