"""The base class of tasks on whole texts or pairs of texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from distill.tasks.columns import bad_texts, check_columns, check_max_length, find_text_columns
from distill.tasks.data_task import DataTask
from students.recording.own_tokens import own_key

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class TextTask(DataTask):
    """The base class of tasks on whole texts.

    Args:
        text: the column of the text, or the two columns of a pair; by default the only column of texts, or two columns
            with the names of a pair (``sentence1`` and ``sentence2``, ``premise`` and ``hypothesis``).
        unlabelled: more training texts, without labels, named like ``data``, with the same text columns; the student
            learns the teacher's outputs on them.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"
    allows_own_tokens: ClassVar[bool] = True

    text: str | list[str] | None = None
    unlabelled: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.text, list) and not 1 <= len(self.text) <= 2:
            raise ValueError(f"text: one column or two, not {len(self.text)}")

    @property
    @abstractmethod
    def label_columns(self) -> list[str]:
        """The columns of the labels."""

    @property
    def needs_teacher(self) -> bool:
        """Whether there are unlabelled texts, from which only a teacher's outputs can be learnt."""
        return self.unlabelled is not None

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        # Empty cells make a CSV column of numbers one of texts.
        own = table.remove_columns([name for name in self.soft_columns if name in table.column_names])
        self.texts = find_text_columns(own, self.text, self.label_columns, max_columns=2)
        check_columns(table, "label", self.label_columns)
        is_pair = len(self.texts) == 2
        check_max_length(tokenizer, self.max_length, is_pair)
        for name, encoder in self.teacher_encoders.items():
            if encoder.max_length <= (special := encoder.tokenizer.num_special_tokens_to_add(pair=is_pair)):
                room = f"{encoder.max_length} leaves no room for text beside {special} special tokens"
                raise ValueError(f"the max_length of {name}: {room}; write a larger one there (teacher)")

    def unlabelled_columns(self, table: Dataset) -> list[str]:
        """Return the columns of texts that unlabelled rows have; raise ValueError if one is missing."""
        check_columns(table, "data", self.texts)
        return self.texts

    @property
    def columns(self) -> list[str]:
        return [*self.texts, *self.label_columns]

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        yield from bad_texts(table, self.texts)
        yield from self.bad_targets(table)

    @abstractmethod
    def bad_targets(self, table: Dataset) -> Iterator[tuple[int, str]]:
        """Yield (row counted from 1, message) for each row whose labels cannot be used."""

    @abstractmethod
    def targets(self, rows: dict[str, list[Any]]) -> list[Any]:
        """Return the target of the head for each row of a batch, whose labels are valid."""

    @property
    @abstractmethod
    def missing_target(self) -> Any:
        """The target of an unlabelled text."""

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoding = self.encode_inputs(rows)
        for teacher, encoder in self.teacher_encoders.items():
            own = encoder.encode(*(rows[column] for column in self.texts))
            encoding |= {own_key(teacher, name): values for name, values in own.items()}
        if self.label_columns[0] in rows:
            labels = self.targets(rows)
        else:
            labels = [self.missing_target] * len(rows[self.texts[0]])
        return encoding | {"labels": labels}

    def input_text(self, row: dict[str, Any]) -> str:
        return " · ".join(str(row[column]) for column in self.texts)
