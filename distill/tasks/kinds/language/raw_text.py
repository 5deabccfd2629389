"""The base class of language modelling on raw text: documents and their pieces."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from distill.tasks.columns import check_columns, check_max_length, find_text_columns
from distill.tasks.kinds.language.vocabulary import VocabularyTask

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

ROW = "row"
"""The value of ``document`` for data in which each row is a document."""
BEGINS, ENDS = "a document begins", "a document ends"
"""Columns that ``mark_documents`` adds."""


class DocumentPart(NamedTuple):
    """A document, or a part of one."""

    text: str
    begins: bool
    """Whether the part begins the document."""
    ends: bool
    """Whether the part ends the document."""


def boundary_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the tokens before and after a document.

    These are the special tokens that the tokenizer adds; if it adds none at the end, its end token.
    """
    full, plain = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    start = next(i for i in range(len(full) + 1) if full[i : i + len(plain)] == plain)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return full[:start], full[start + len(plain) :] or end


@dataclass(kw_only=True)
class Language(VocabularyTask):
    """The base class of tasks on raw text.

    The rows of a document are joined by line breaks and cut into pieces of ``max_length`` tokens; a piece never spans
    two documents.

    Args:
        text: the column of the text; by default the only column of texts.
        document: ``row`` if each row is a document, or the name of a column; consecutive rows with the same value in it
            form a document. By default all rows of a file are the lines of one document.
    """

    in_order: ClassVar[bool] = True

    text: str | None = None
    document: str | None = None
    metric: Literal["perplexity", "accuracy"] = "perplexity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augment:
            raise ValueError("augment: raw text is not augmented")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        documents = [self.document] if self.document else []
        self.texts = find_text_columns(table, self.text, documents, max_columns=1)
        if self.document != ROW:
            check_columns(table, "document", documents)
        check_max_length(tokenizer, self.max_length)
        if not tokenizer.is_fast:
            raise ValueError("data: a fast tokenizer is needed, which cuts a text into pieces")

    @property
    def columns(self) -> list[str]:
        return [*self.texts] if self.document is None or self.document == ROW else [*self.texts, self.document]

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        all_empty = True
        for row, text in enumerate(table[self.texts[0]], 1):
            if text is not None and not isinstance(text, str):
                yield row, f"{self.texts[0]!r} is {text!r}, not a text"
            all_empty = all_empty and not text
        if self.document not in (None, ROW):
            missing = (row for row, value in enumerate(table[self.document], 1) if value is None)
            yield from ((row, f"{self.document!r} is missing") for row in missing)
        if all_empty:
            yield 1, f"{self.texts[0]!r} is empty, as in all rows"

    def mark_documents(self, table: Dataset) -> Dataset:
        begins = self._begins({name: list(table[name]) for name in self.columns})
        note = f"{sum(begins):,} documents in {len(table):,} rows" if self.document else self._document_note(table)
        self.notes += [note] * (note not in self.notes)
        return table.add_column(BEGINS, begins).add_column(ENDS, [*begins[1:], True])

    def _begins(self, rows: dict[str, list[Any]]) -> list[bool]:
        """Return for each row of a file whether it begins a document."""
        count = len(rows[self.texts[0]])
        if self.document == ROW:
            return [True] * count
        if self.document is None:
            return [True] + [False] * (count - 1)
        return [True] + [value != previous for previous, value in pairwise(rows[self.document])]

    def _document_note(self, table: Dataset) -> str:
        texts = [text.strip() for text in table[self.texts[0]] if text and text.strip()]
        has_line_breaks = sum("\n" in text for text in texts) > len(texts) / 2
        return (
            f"the rows of a file are lines of one document{', though most contain line breaks' * has_line_breaks}; "
            "if each row is a document, write `document: row`; else name the column that identifies documents"
        )

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        begins = rows[BEGINS] if BEGINS in rows else self._begins(rows)
        ends = rows[ENDS] if ENDS in rows else [*begins[1:], True]
        lines = [text or "" for text in rows[self.texts[0]]]
        bounds = [0, *[i for i, begin in enumerate(begins) if begin and i], len(lines)]
        parts = [DocumentPart("\n".join(lines[i:j]), begins[i], ends[j - 1]) for i, j in pairwise(bounds)]
        pieces = self.make_pieces([part for part in parts if part.text.strip()])
        return pieces | {"labels": [self.make_labels(ids) for ids in pieces["input_ids"]]}

    @abstractmethod
    def make_pieces(self, parts: list[DocumentPart]) -> dict[str, list[Any]]:
        """Return the model inputs of the pieces of texts."""

    @abstractmethod
    def make_labels(self, ids: list[int]) -> list[int]:
        """Return the label of each token of a piece."""
