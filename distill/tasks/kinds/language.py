"""Language modelling on raw text: the hidden words, or the next one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch

from distill.tasks.augment.augmentation import Row
from distill.tasks.columns import named, room_for, text_columns
from distill.tasks.kinds.vocabulary import VocabularyTask
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

ROW = "row"
"""The ``document`` that is a row."""
BEGINS, ENDS = "a document begins", "a document ends"
"""Columns that ``mark`` adds."""


class Part(NamedTuple):
    """A document, or what is at hand of one."""

    text: str
    begins: bool
    """Whether its beginning is there."""
    ends: bool
    """Whether its end is there."""


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The tokens that stand before and after a document: what the tokenizer puts there; for the end, if it puts
    nothing, its end token.
    """
    framed, plain = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    at = next(i for i in range(len(framed) + 1) if framed[i : i + len(plain)] == plain)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return framed[:at], framed[at + len(plain) :] or end


@dataclass(kw_only=True)
class Language(VocabularyTask):
    """What the tasks on raw text share: the rows of a document are joined by line breaks and cut into pieces of
    ``max_length`` tokens, none of which goes on from one document to the next.

    Args:
        text: the column of the text; if not given, the only column of texts.
        document: what a document is: ``row``, or the name of a column, of which rows that follow one another with the
            same value are one. If not given, all rows of a file are: they are lines of one text.
    """

    in_order: ClassVar[bool] = True

    text: str | None = None
    document: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.augment:
            raise ValueError("augment: raw text is not augmented")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        self.texts = text_columns(table, self.text, self.document, most=1)
        if self.document != ROW:
            named(table, "document", [self.document] * bool(self.document))
        room_for(tokenizer, self.max_length)
        if not tokenizer.is_fast:
            raise ValueError("data: the tokenizer cannot cut a text into pieces")

    @property
    def columns(self) -> list[str]:
        return [*self.texts, *[self.document] * (self.document not in (None, ROW))]

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        empty = True
        for row, text in enumerate(table[self.texts[0]], 1):
            if text is not None and not isinstance(text, str):
                yield row, f"{self.texts[0]!r} is {text!r}, not a text"
            empty = empty and not text
        if self.document not in (None, ROW):
            missing = (row for row, value in enumerate(table[self.document], 1) if value is None)
            yield from ((row, f"{self.document!r} is missing") for row in missing)
        if empty:
            yield 1, f"{self.texts[0]!r} is empty, as in all rows"

    def mark(self, table: Dataset) -> Dataset:
        begins = self._begins({name: list(table[name]) for name in self.columns})
        note = f"{sum(begins):,} documents in {len(table):,} rows" if self.document else self._lines(table)
        self.notes += [note] * (note not in self.notes)
        return table.add_column(BEGINS, begins).add_column(ENDS, [*begins[1:], True])

    def _begins(self, rows: dict[str, list]) -> list[bool]:
        """Whether each of the rows, which are all there are, begins a document."""
        count = len(rows[self.texts[0]])
        if self.document == ROW:
            return [True] * count
        if self.document is None:
            return [True] + [False] * (count - 1)
        return [True] + [value != before for before, value in pairwise(rows[self.document])]

    def _lines(self, table: Dataset) -> str:
        texts = [text.strip() for text in table[self.texts[0]] if text and text.strip()]
        whole = sum("\n" in text for text in texts) > len(texts) / 2
        return (
            f"the rows of a file are lines of one document{', though most hold line breaks of their own' * whole}; "
            f"if each is a text of its own, give `document: row`, else the column that tells documents apart"
        )

    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        begins = rows[BEGINS] if BEGINS in rows else self._begins(rows)
        ends = rows[ENDS] if ENDS in rows else [*begins[1:], True]
        lines = [text or "" for text in rows[self.texts[0]]]
        first = [0, *[i for i, begin in enumerate(begins) if begin and i], len(lines)]
        parts = [Part("\n".join(lines[i:j]), begins[i], ends[j - 1]) for i, j in pairwise(first)]
        found = self.pieces([part for part in parts if part.text.strip()])
        return found | {"labels": [self.asked(ids) for ids in found["input_ids"]]}

    @abstractmethod
    def pieces(self, parts: list[Part]) -> dict[str, list]:
        """What the model reads of texts."""

    @abstractmethod
    def asked(self, ids: list[int]) -> list[int]:
        """What is to be predicted at each token of a piece."""


@dataclass(kw_only=True)
class CausalLM(Language):
    """The next token at each token but the last.

    What the tokenizer puts before a text stands at the start of each document, and nowhere else; its end token at the
    end. A piece begins with the last token of the one before it, so that each token but a document's first is asked
    for once.
    """

    auto_class: ClassVar[str] = "AutoModelForCausalLM"

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if self.max_length < 2:
            raise ValueError("max_length: 1 leaves no token to predict")
        if not frame(tokenizer)[1]:
            self.notes.append("the tokenizer has no end token, so no model learns where a document ends")

    def pieces(self, parts: list[Part]) -> dict[str, list]:
        before, after = frame(self.tokenizer)
        texts, found = [part.text for part in parts], []
        # Of no texts a tokenizer makes nothing, not even no ids.
        plain = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        for part, ids in zip(parts, plain, strict=True):
            # A text may hold them already.
            begin = before if part.begins and ids[: len(before)] != before else []
            end = after if part.ends and ids[-len(after) :] != after else []
            whole = [*begin, *ids, *end]
            found += [whole[i : i + self.max_length] for i in range(0, len(whole) - 1, self.max_length - 1)]
        return {"input_ids": found, "attention_mask": [[1] * len(ids) for ids in found]}

    def asked(self, ids: list[int]) -> list[int]:
        return [*ids[1:], IGNORED]


@dataclass(kw_only=True)
class MaskedLM(Language):
    """Hidden tokens, drawn anew in each epoch: 8 in 10 become the mask, 1 a random token, 1 stays (Devlin et al. 2018,
    arXiv 1810.04805).

    Args:
        share: the probability for a token to be asked for; of a piece at least one is.
    """

    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    redrawn: ClassVar[bool] = True

    share: float = 0.15

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"share: must lie in (0, 1], not {self.share}")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if tokenizer.mask_token_id is None:
            raise ValueError("name: the tokenizer has no mask token; use causal_lm for such a model")
        self.special = torch.tensor(tokenizer.all_special_ids)

    def pieces(self, parts: list[Part]) -> dict[str, list]:
        """Each as the tokenizer makes it, special tokens at both ends: an encoder reads no text without."""
        texts, special = [part.text for part in parts] or [""], set(self.tokenizer.all_special_ids)
        found = self.tokenizer(texts, truncation=True, max_length=self.max_length, return_overflowing_tokens=True)
        # Of what holds no word that it knows nothing can be hidden.
        full = [i for i, ids in enumerate(found["input_ids"]) if not special.issuperset(ids)]
        return {name: [found[name][i] for i in full] for name in found if name != "overflow_to_sample_mapping"}

    def asked(self, ids: list[int]) -> list[int]:
        return [IGNORED] * len(ids)

    def draw(self, row: Row, draw: torch.Generator) -> Row:
        ids = torch.tensor(row["input_ids"])
        words = ~torch.isin(ids, self.special)
        asked = (torch.rand(len(ids), generator=draw) < self.share) & words
        if words.any() and not asked.any():  # one at least, as BERT's own: of a short piece nothing might ever be drawn
            asked[words.nonzero()[torch.randint(int(words.sum()), (), generator=draw)]] = True
        fate = torch.rand(len(ids), generator=draw)
        random = torch.randint(len(self.tokenizer), ids.shape, generator=draw)
        seen = torch.where(fate < 0.8, self.tokenizer.mask_token_id, torch.where(fate < 0.9, random, ids))
        labels = torch.where(asked, ids, IGNORED).tolist()
        return row | {"input_ids": torch.where(asked, seen, ids).tolist(), "labels": labels}
