"""Language modelling on raw text: the hidden words, or the next one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerBase

from distill.augment import Row
from distill.tasks.columns import room_for, text_columns
from distill.tasks.vocabulary import VocabularyTask
from students.asked import IGNORED


@dataclass(kw_only=True)
class Language(VocabularyTask):
    """What the tasks on raw text share: rows are joined by line breaks and cut into pieces of ``max_length`` tokens.

    Args:
        text: the column of the text; if not given, the only column of texts.
    """

    in_order: ClassVar[bool] = True

    text: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.augment:
            raise ValueError("augment: raw text is not augmented")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        self.texts = text_columns(table, self.text, None, most=1)
        room_for(tokenizer, self.max_length)
        if not tokenizer.is_fast:
            raise ValueError("data: the tokenizer cannot cut a text into pieces")

    @property
    def columns(self) -> list[str]:
        return self.texts

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        empty = True
        for row, text in enumerate(table[self.texts[0]], 1):
            if text is not None and not isinstance(text, str):
                yield row, f"{self.texts[0]!r} is {text!r}, not a text"
            empty = empty and not text
        if empty:
            yield 1, f"{self.texts[0]!r} is empty, as in all rows"

    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        found = self.tokenizer(
            "\n".join(text or "" for text in rows[self.texts[0]]),
            truncation=True,
            max_length=self.max_length,
            return_overflowing_tokens=True,
        )
        # Of nothing but empty lines there is a piece without text, for some tokenizers one without any token.
        special = self.tokenizer.num_special_tokens_to_add()
        full = [i for i, ids in enumerate(found["input_ids"]) if len(ids) > special]
        kept = {name: [found[name][i] for i in full] for name in found if name != "overflow_to_sample_mapping"}
        return kept | {"labels": [self.asked(ids) for ids in kept["input_ids"]]}

    @abstractmethod
    def asked(self, ids: list[int]) -> list[int]:
        """What is to be predicted at each token of a piece."""


@dataclass(kw_only=True)
class CausalLM(Language):
    """The next token at each token but the last."""

    head: ClassVar[type] = AutoModelForCausalLM

    def asked(self, ids: list[int]) -> list[int]:
        return [*ids[1:], IGNORED]


@dataclass(kw_only=True)
class MaskedLM(Language):
    """Hidden tokens, drawn anew in each epoch: 8 in 10 become the mask, 1 a random token, 1 stays (Devlin et al. 2018,
    arXiv 1810.04805).

    Args:
        share: the probability for a token to be asked for.
    """

    head: ClassVar[type] = AutoModelForMaskedLM
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

    def asked(self, ids: list[int]) -> list[int]:
        return [IGNORED] * len(ids)

    def draw(self, row: Row, draw: torch.Generator) -> Row:
        ids = torch.tensor(row["input_ids"])
        asked = (torch.rand(len(ids), generator=draw) < self.share) & ~torch.isin(ids, self.special)
        fate = torch.rand(len(ids), generator=draw)
        random = torch.randint(len(self.tokenizer), ids.shape, generator=draw)
        seen = torch.where(fate < 0.8, self.tokenizer.mask_token_id, torch.where(fate < 0.9, random, ids))
        labels = torch.where(asked, ids, IGNORED).tolist()
        return row | {"input_ids": torch.where(asked, seen, ids).tolist(), "labels": labels}
