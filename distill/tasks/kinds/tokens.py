"""Token classification: entities, parts of speech."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from distill.tasks.classes import Classes, label_kind_of
from distill.tasks.columns import check_columns, check_max_length, first_value, is_label, is_list
from distill.tasks.data_task import DataTask
from students.recording.own_tokens import own_key
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import BatchEncoding, PreTrainedTokenizerBase


@dataclass(kw_only=True)
class TokenClassification(DataTask):
    """A class for each word of a text that is split into words; a word is predicted at its first token.

    Args:
        words: the column of lists of words.
        tags: the column of lists of their classes.
        labels: the class of each tag, {tag: name or number of an output}, if names do not determine it.
        metric: by which the best checkpoint is chosen; ``f1`` is of whole entities and needs tags B-..., I-... and O.
    """

    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    pipeline: ClassVar[str] = "token-classification"
    label_noun: ClassVar[str] = "tags"
    reads_words: ClassVar[bool] = True
    allows_own_tokens: ClassVar[bool] = True

    words: str = "tokens"
    tags: str = "ner_tags"
    labels: dict[str, str] = field(default_factory=dict)
    metric: Literal["f1", "accuracy"] = "f1"

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        for key, name in (("words", self.words), ("tags", self.tags)):
            check_columns(table, key, [name])
            if not hasattr(table.features[name], "feature"):
                raise ValueError(f"{key}: the column {name!r} does not hold lists")
        if not tokenizer.is_fast:
            raise ValueError("words: a fast tokenizer is needed, which maps tokens to words")
        for name, encoder in self.teacher_encoders.items():
            if not encoder.tokenizer.is_fast:
                raise ValueError(f"words: the tokenizer of {name} is no fast one, which maps tokens to words")
        check_max_length(tokenizer, self.max_length)
        if self.teacher_encoders and self.augment:
            raise ValueError("augment: changed tokens have no words, by which a teacher with other tokens is aligned")
        tags = chain.from_iterable(row for row in table[self.tags] if row)
        self.classes: Classes = Classes.from_column(table.features[self.tags].feature, tags, self.labels)

    @property
    def input_columns(self) -> list[str]:
        return [self.words]

    @property
    def columns(self) -> list[str]:
        return [self.words, self.tags]

    def encode_inputs(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the model inputs of words; a text is split at whitespace."""
        return dict(self._tokenize(rows[self.words]))

    def _tokenize(self, texts: list[Any]) -> BatchEncoding:
        """Return the model inputs, and to which word each token belongs."""
        return encode_words(self.tokenizer, self.max_length, texts)

    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return ``words``: for each word its ``label`` and the probability ``score``; truncated words have none."""
        words = row[self.words].split() if isinstance(row[self.words], str) else row[self.words]
        word_ids = self._tokenize([words]).word_ids(0)
        scores, labels = logits.float().softmax(-1).max(-1)
        first = {word: token for token, word in reversed(list(enumerate(word_ids))) if word is not None}
        return {
            "words": [
                {"word": word, "label": names[labels[first[i]]], "score": float(scores[first[i]])}
                for i, word in enumerate(words)
                if i in first
            ]
        }

    def label_kind(self, table: Dataset) -> object:
        return label_kind_of(table.features[self.tags].feature)

    def bad_types(self, table: Dataset) -> Iterator[tuple[int, str]]:
        kind = table.data.schema.field(self.tags).type if self.tags in table.column_names else None
        if kind is not None and is_list(kind) and not is_label(kind.value_type):
            for row, value, of_all in first_value(table, self.tags):
                yield row, f"{self.tags!r} is {value}, {of_all}; a tag is one class, a whole number or a text"

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        for row, (words, tags) in enumerate(zip(table[self.words], table[self.tags], strict=True), 1):
            if not words or not all(isinstance(word, str) for word in words):
                yield row, f"{self.words!r} is {'empty' if not words else 'not a list of texts'}"
            elif not tags or len(tags) != len(words):
                yield row, f"{self.tags!r} has {len(tags or [])} tags for {len(words)} words"
            elif error := next((f"{tag!r}{reason}" for tag in tags if (reason := self.classes.label_error(tag))), ""):
                yield row, f"{self.tags!r} has {error}"

    @property
    def has_entity_tags(self) -> bool:
        """Whether the tags name entities."""
        return all(re.fullmatch("O|[BI]-.+", name) for name in self.classes.names)

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if self.metric == "f1" and not self.has_entity_tags:
            tags = ", ".join(self.classes.names[:5])
            raise ValueError(f"metric: f1 needs tags B-..., I-... and O, not {tags}; use accuracy")
        encodings = {"": self._tokenize(rows[self.words])}
        for teacher, encoder in self.teacher_encoders.items():
            encodings[teacher] = encode_words(
                encoder.tokenizer, encoder.max_length, rows[self.words], return_attention_mask=True
            )
        starts = {
            name: [word_starts(encoding.word_ids(i)) for i in range(len(rows[self.words]))]
            for name, encoding in encodings.items()
        }
        # Words that one side truncates or does not see have no pair.
        shared = [set.intersection(*map(set, of_row)) - {None} for of_row in zip(*starts.values(), strict=True)]
        columns: dict[str, list[Any]] = {}
        for name, encoding in encodings.items():
            labels = [
                [self.classes.label_id(tags[word]) if word in words else IGNORED for word in row]
                for row, tags, words in zip(starts[name], rows[self.tags], shared, strict=True)
            ]
            inputs = dict(encoding) | {"labels": labels}
            columns |= {own_key(name, key): values for key, values in inputs.items()} if name else inputs
        return columns

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Return the accuracy over words, and F1 of entities if the tags name entities."""
        # Imported here: torchmetrics takes seconds, and reading a config does not need it.
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        from distill.tasks.metrics.predictions import EntityF1

        accuracy = MulticlassAccuracy(len(self.classes.names), average="micro", ignore_index=IGNORED)
        entities = {"f1": EntityF1(self.classes.names)} if self.has_entity_tags else {}
        return MetricCollection({**entities, "accuracy": accuracy})

    def update_metrics(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        metrics.update(logits.argmax(-1), batch["labels"])


def word_starts(words: list[int | None]) -> list[int | None]:
    """Return for each token the word that begins with it; None within a word and at special tokens.

    Args:
        words: the word of each token, None of a special one.
    """
    return [None if word == before else word for before, word in zip([None, *words], words, strict=False)]


def encode_words(
    tokenizer: PreTrainedTokenizerBase, max_length: int, texts: list[Any], return_attention_mask: bool | None = None
) -> BatchEncoding:
    """Return the model inputs of texts that are words, or are split at whitespace, and to which word a token belongs.

    Raises:
        ValueError: if the tokenizer reads no words.
    """
    words = [text.split() if isinstance(text, str) else text for text in texts]
    try:
        encoding: BatchEncoding = tokenizer(
            words,
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            return_attention_mask=return_attention_mask,
        )
    except AssertionError as error:  # of GPT-2's, saved without add_prefix_space
        raise ValueError(f"words: {error}") from error
    return encoding
