"""Language modelling on raw text: masked tokens, or the next token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from distill.tasks.augment.augmentation import Row
from distill.tasks.columns import check_columns, check_max_length, find_text_columns
from distill.tasks.kinds.vocabulary import VocabularyTask
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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

    def __post_init__(self):
        super().__post_init__()
        if self.augment:
            raise ValueError("augment: raw text is not augmented")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        self.texts = find_text_columns(table, self.text, self.document, max_columns=1)
        if self.document != ROW:
            check_columns(table, "document", [self.document] * bool(self.document))
        check_max_length(tokenizer, self.max_length)
        if not tokenizer.is_fast:
            raise ValueError("data: a fast tokenizer is needed, which cuts a text into pieces")

    def restore(self, tokenizer: PreTrainedTokenizerBase, columns: dict[str, str]) -> None:
        super().restore(tokenizer, columns)
        self.texts = [name for name, use in columns.items() if use.startswith("text")]

    @property
    def input_columns(self) -> list[str]:
        return self.texts

    @property
    def columns(self) -> list[str]:
        return [*self.texts, *[self.document] * (self.document not in (None, ROW))]

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

    def _begins(self, rows: dict[str, list]) -> list[bool]:
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

    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        begins = rows[BEGINS] if BEGINS in rows else self._begins(rows)
        ends = rows[ENDS] if ENDS in rows else [*begins[1:], True]
        lines = [text or "" for text in rows[self.texts[0]]]
        bounds = [0, *[i for i, begin in enumerate(begins) if begin and i], len(lines)]
        parts = [DocumentPart("\n".join(lines[i:j]), begins[i], ends[j - 1]) for i, j in pairwise(bounds)]
        pieces = self.make_pieces([part for part in parts if part.text.strip()])
        return pieces | {"labels": [self.make_labels(ids) for ids in pieces["input_ids"]]}

    @abstractmethod
    def make_pieces(self, parts: list[DocumentPart]) -> dict[str, list]:
        """Return the model inputs of the pieces of texts."""

    @abstractmethod
    def make_labels(self, ids: list[int]) -> list[int]:
        """Return the label of each token of a piece."""


@dataclass(kw_only=True)
class CausalLM(Language):
    """Next-token prediction.

    The tokenizer's initial special tokens are at the start of each document only, its end token at the end only. A
    piece begins with the last token of the one before it, so that each token but a document's first is predicted once.
    """

    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    writes_text: ClassVar[bool] = True

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if self.max_length < 2:
            raise ValueError("max_length: 1 leaves no token to predict")
        if not boundary_tokens(tokenizer)[1]:
            self.notes.append("the tokenizer has no end token, so models do not learn where a document ends")

    def make_pieces(self, parts: list[DocumentPart]) -> dict[str, list]:
        prefix, suffix = boundary_tokens(self.tokenizer)
        texts, pieces = [part.text for part in parts], []
        # For an empty list a tokenizer returns no "input_ids".
        plain = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        for part, ids in zip(parts, plain, strict=True):
            # The text may contain the special tokens already.
            begin = prefix if part.begins and ids[: len(prefix)] != prefix else []
            end = suffix if part.ends and ids[-len(suffix) :] != suffix else []
            document = [*begin, *ids, *end]
            pieces += [document[i : i + self.max_length] for i in range(0, len(document) - 1, self.max_length - 1)]
        return {"input_ids": pieces, "attention_mask": [[1] * len(ids) for ids in pieces]}

    def make_labels(self, ids: list[int]) -> list[int]:
        return [*ids[1:], IGNORED]

    def generate(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> list[Tensor]:
        """Return what a model writes after each text, one after the other: padding would be in between."""
        texts = []
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
            prompt = ids[mask][None]
            written = model.generate(prompt, max_new_tokens=self.max_length, do_sample=False, num_beams=1)
            texts.append(written[0, prompt.shape[1] :])
        return texts


@dataclass(kw_only=True)
class MaskedLM(Language):
    """Prediction of masked tokens, drawn anew in each epoch.

    Of 10 predicted tokens 8 become the mask, 1 a random token, and 1 stays (Devlin et al. 2018, arXiv 1810.04805).

    Args:
        mlm_probability: the probability that a token is predicted; at least one of each piece is.
    """

    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    redraws_rows: ClassVar[bool] = True

    mlm_probability: float = 0.15

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.mlm_probability <= 1:
            raise ValueError(f"mlm_probability: must lie in (0, 1], not {self.mlm_probability}")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if tokenizer.mask_token_id is None:
            raise ValueError("name: the tokenizer has no mask token; use causal_lm for such a model")
        self.special_ids = torch.tensor(tokenizer.all_special_ids)

    def make_pieces(self, parts: list[DocumentPart]) -> dict[str, list]:
        """Tokenize each document with special tokens at both ends of each piece, as encoders expect."""
        texts, special_ids = [part.text for part in parts] or [""], set(self.tokenizer.all_special_ids)
        encoding = self.tokenizer(texts, truncation=True, max_length=self.max_length, return_overflowing_tokens=True)
        # A piece of special tokens only has nothing to mask.
        indices = [i for i, ids in enumerate(encoding["input_ids"]) if not special_ids.issuperset(ids)]
        return {name: [encoding[name][i] for i in indices] for name in encoding if name != "overflow_to_sample_mapping"}

    def make_labels(self, ids: list[int]) -> list[int]:
        return [IGNORED] * len(ids)

    def answer(self, logits: Tensor, row: dict, names: list[str]) -> dict[str, Any]:
        """Return ``tokens``: for each mask of the text the most probable token ``text`` and its probability."""
        ids = torch.tensor(self.encode_inputs({name: [row[name]] for name in self.input_columns})["input_ids"][0])
        masks = (ids == self.tokenizer.mask_token_id).nonzero().flatten()
        scores, tokens = logits[masks, : len(self.tokenizer)].float().softmax(-1).max(-1)
        pairs = zip(tokens.tolist(), scores.tolist(), strict=True)
        return {"tokens": [{"text": self.tokenizer.decode([token]).strip(), "score": score} for token, score in pairs]}

    def redraw(self, row: Row, generator: torch.Generator) -> Row:
        ids = torch.tensor(row["input_ids"])
        maskable = ~torch.isin(ids, self.special_ids)
        predicted = (torch.rand(len(ids), generator=generator) < self.mlm_probability) & maskable
        if maskable.any() and not predicted.any():  # at least one, as in BERT: a short piece might never have any
            predicted[maskable.nonzero()[torch.randint(int(maskable.sum()), (), generator=generator)]] = True
        choice = torch.rand(len(ids), generator=generator)
        random_ids = torch.randint(len(self.tokenizer), ids.shape, generator=generator)
        replaced = torch.where(choice < 0.8, self.tokenizer.mask_token_id, torch.where(choice < 0.9, random_ids, ids))
        labels = torch.where(predicted, ids, IGNORED).tolist()
        return row | {"input_ids": torch.where(predicted, replaced, ids).tolist(), "labels": labels}
