"""The task of naming each word of a text: entities, parts of speech."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar, Literal

import torch
from datasets import Dataset
from nervaluate.utils import collect_named_entities
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerBase

from distill.tasks.classes import Classes, kind_of
from distill.tasks.columns import example, is_label, is_list, named, room_for
from distill.tasks.task import DataTask
from students.recording.sparse_lm_head import IGNORED


@dataclass(kw_only=True)
class TokenClassification(DataTask):
    """One class for each word of a text that is split into words; a word's first token stands for it.

    Args:
        words: the column of lists of words.
        tags: the column of lists of their classes.
        labels: the class of each tag, {tag: name or number of an output}, where names do not say it.
        metric: by which the best state is chosen; ``f1`` is of whole entities, and needs tags B-..., I-... and O.
    """

    head: ClassVar[type] = AutoModelForTokenClassification
    label_noun: ClassVar[str] = "tags"

    words: str = "tokens"
    tags: str = "ner_tags"
    labels: dict[str, str] = field(default_factory=dict)
    metric: Literal["f1", "accuracy"] = "f1"

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        for key, name in (("words", self.words), ("tags", self.tags)):
            named(table, key, [name])
            if not hasattr(table.features[name], "feature"):
                raise ValueError(f"{key}: the column {name!r} does not hold lists")
        if not tokenizer.is_fast:
            raise ValueError("words: the tokenizer does not tell which token belongs to which word")
        room_for(tokenizer, self.max_length)
        tags = chain.from_iterable(row for row in table[self.tags] if row)
        self.classes = Classes.of(table.features[self.tags].feature, tags, self.labels)

    @property
    def columns(self) -> list[str]:
        return [self.words, self.tags]

    def kind(self, table: Dataset) -> object:
        return kind_of(table.features[self.tags].feature)

    def bad_types(self, table: Dataset) -> Iterator[tuple[int, str]]:
        kind = table.data.schema.field(self.tags).type if self.tags in table.column_names else None
        if kind is not None and is_list(kind) and not is_label(kind.value_type):
            for row, value, of_all in example(table, self.tags):
                yield row, f"{self.tags!r} is {value}, {of_all}; a tag is one class, a whole number or a text"

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        for row, (words, tags) in enumerate(zip(table[self.words], table[self.tags], strict=True), 1):
            if not words or not all(isinstance(word, str) for word in words):
                yield row, f"{self.words!r} is {'empty' if not words else 'not a list of texts'}"
            elif not tags or len(tags) != len(words):
                yield row, f"{self.tags!r} has {len(tags or [])} tags for {len(words)} words"
            elif wrong := next((f"{tag!r}{why}" for tag in tags if (why := self.classes.wrong(tag))), ""):
                yield row, f"{self.tags!r} has {wrong}"

    @property
    def entities(self) -> bool:
        """Whether the tags name entities."""
        return all(re.fullmatch("O|[BI]-.+", name) for name in self.classes.names)

    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        if self.metric == "f1" and not self.entities:
            tags = ", ".join(self.classes.names[:5])
            raise ValueError(f"metric: f1 needs tags B-..., I-... and O, not {tags}; use accuracy")
        found = self.tokenizer(rows[self.words], is_split_into_words=True, truncation=True, max_length=self.max_length)
        labels = []
        for i, tags in enumerate(rows[self.tags]):
            words = found.word_ids(i)
            labels.append(
                [
                    IGNORED if word in (None, before) else self.classes.number(tags[word])
                    for before, word in zip([None, *words], words, strict=False)
                ]
            )
        return dict(found) | {"labels": labels}

    @property
    def main_metric(self) -> str:
        """``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """The share of right words, and F1 of entities where the tags name such."""
        accuracy = MulticlassAccuracy(len(self.classes.names), average="micro", ignore_index=IGNORED)
        entities = {"f1": EntityF1(self.classes.names)} if self.entities else {}
        return MetricCollection(entities | {"accuracy": accuracy})

    def judge(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        metrics.update(logits.argmax(-1), batch["labels"])


class EntityF1(Metric):
    """F1 of whole entities, those whose class, begin and end are all right, as CoNLL and seqeval count them.

    Args:
        names: of the tags, B-..., I-... and O. An I- that follows no entity of its class begins one.
    """

    higher_is_better = True

    def __init__(self, names: list[str]):
        super().__init__()
        self.names = names
        for count in ("right", "said", "true"):
            self.add_state(count, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, said: Tensor, true: Tensor) -> None:
        """Adds texts: tags [B, S] each; where the true tag is -100 there is no word."""
        for mine, wanted in zip(said.tolist(), true.tolist(), strict=True):
            words = [i for i, tag in enumerate(wanted) if tag != IGNORED]
            found, real = (self._entities([tags[i] for i in words]) for tags in (mine, wanted))
            self.right += (found & real).total()
            self.said += found.total()
            self.true += real.total()

    def compute(self) -> Tensor:
        """2 right / (said + true); 0 if there are no entities."""
        return 2 * self.right / (self.said + self.true).clamp(min=1)

    def _entities(self, tags: list[int]) -> Counter:
        return Counter(tuple(entity.values()) for entity in collect_named_entities([self.names[tag] for tag in tags]))
