"""Extractive question answering."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from distill.tasks.columns import check_columns, check_max_length
from distill.tasks.data_task import DataTask
from losses.loss import valid_tokens
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import PreTrainedTokenizerBase

MAX_ANSWER_TOKENS = 30
"""The maximum length of an answer."""
_NO_ANSWER = {"text": [""], "answer_start": [0]}
SPAN_BASE = 2**32
"""A number above the length of any context, in characters."""


@dataclass(kw_only=True)
class QuestionAnswering(DataTask):
    """A span of the context for each question; the data has the columns of SQuAD: question, context, answers.

    Two distributions are predicted, over the first and the last token of the answer. A long context is truncated, a
    question never. A question whose answer is truncated is not trained on, and counts as wrong in validation.

    Args:
        metric: by which the best checkpoint is chosen.
    """

    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    pipeline: ClassVar[str] = "question-answering"
    predicts_positions: ClassVar[bool] = True
    label_noun: ClassVar[str] = "answers"
    lost_label_effect: ClassVar[dict[str, str]] = {
        "train": "are not learnt",
        "validation": "count as not answered",
        "test": "count as not answered",
    }

    max_length: int = 384
    metric: Literal["f1", "exact_match"] = "f1"

    def __post_init__(self) -> None:
        super().__post_init__()
        for step in self.augmentations():
            if step.removes_tokens:
                raise ValueError("augment: a shortened context may have lost the answer")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        check_columns(table, "data", self.columns)
        if not tokenizer.is_fast:
            raise ValueError("data: a fast tokenizer is needed, which maps tokens to characters")
        check_max_length(tokenizer, self.max_length, pair=True)

    @property
    def input_columns(self) -> list[str]:
        return ["question", "context"]

    @property
    def columns(self) -> list[str]:
        return ["question", "context", "answers"]

    def encode_inputs(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the model inputs; a long context is truncated."""
        columns = [rows[name] for name in self.input_columns]
        return dict(self.tokenizer(*columns, truncation="only_second", max_length=self.max_length))

    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return ``answer``, the characters of the context where it begins and ends, and its probability ``score``."""
        encoded = self.encode({**{name: [row[name]] for name in self.input_columns}, "answers": [_NO_ANSWER]})
        batch = {name: torch.tensor(encoded[name]) for name in ("begins", "ends", "attention_mask")}
        selected = self.select_logits(logits[None], batch)
        begin, end = divmod(int(self.predictions(selected, batch)), SPAN_BASE)
        score = float(self.confidences(selected, batch))
        return {"answer": row["context"][begin:end], "begin": begin, "end": end, "score": score}

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        questions = [text if isinstance(text, str) else "" for text in table["question"]]
        lengths = [len(ids) for ids in self.tokenizer(questions, add_special_tokens=False)["input_ids"]]
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=True)
        for row, length in enumerate(lengths, 1):
            if length >= room:
                yield (
                    row,
                    f"'question' has {length} tokens; max_length: {self.max_length} leaves none for 'context'",
                )
        rows = zip(*(table[name] for name in self.columns), strict=True)
        for row, (question, context, answers) in enumerate(rows, 1):
            for name, text in (("question", question), ("context", context)):
                if not isinstance(text, str) or not text.strip():
                    empty = text is None or isinstance(text, str)
                    yield row, f"{name!r} is {'empty' if empty else f'{text!r}, not a text'}"
            if error := _answer_error(answers, str(context)):
                yield row, error

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Also return ``begins`` and ``ends`` [S], the character offsets of context tokens; both are 0 at others."""
        encoding = self.tokenizer(
            rows["question"],
            rows["context"],
            truncation="only_second",
            max_length=self.max_length,
            return_offsets_mapping=True,
        )
        offsets = encoding.pop("offset_mapping")
        columns: dict[str, list[list[int]]] = {"begins": [], "ends": [], "labels": []}
        for i, answers in enumerate(rows["answers"]):
            spans = [
                span if sequence == 1 else (0, 0)
                for sequence, span in zip(encoding.sequence_ids(i), offsets[i], strict=True)
            ]
            text, begin = answers["text"][0], answers["answer_start"][0]
            # Whitespace around an answer is in no token.
            begin, end = begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
            first = [token for token, (b, e) in enumerate(spans) if b <= begin < e]
            last = [token for token, (b, e) in enumerate(spans) if b < end <= e]
            columns["labels"].append([first[0], last[-1]] if first and last else [IGNORED, IGNORED])
            for key, values in zip(("begins", "ends"), zip(*spans, strict=True), strict=True):
                columns[key].append(list(values))
        return dict(encoding) | columns

    def count_targets(self, labels: list[int] | int | float) -> int:
        """Return 1, or 0 if the answer is truncated; its two positions count as one target."""
        return int(isinstance(labels, list) and labels[0] != IGNORED)

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Return exact match and F1 of words, over the best of the true answers (Rajpurkar 2016, arXiv 1606.05250)."""
        from torchmetrics import MetricCollection  # not above: it takes seconds

        from distill.tasks.metrics.predictions import SquadShare

        return MetricCollection({name: SquadShare(name) for name in ("exact_match", "f1")})

    def select_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the distributions over tokens [B, 2, S] of start and end logits [B, S, 2]; padding is masked."""
        padding = ~valid_tokens(batch)[:, None]
        # Not minus infinity: its difference to itself is NaN.
        return logits.transpose(1, 2).float().masked_fill(padding, -1e4)

    def best_span(self, logits: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the first and the last token of the most probable span of the context, [B] each."""
        context = torch.where(batch["ends"] > 0, 0.0, -1e6)
        begin, end = (logits[:, part] + context for part in range(2))
        length = logits.shape[-1]
        allowed = torch.ones(length, length, device=logits.device).triu().tril(MAX_ANSWER_TOKENS - 1).bool()
        flat_index = (begin[:, :, None] + end[:, None]).masked_fill(~allowed, -1e9).flatten(1).argmax(-1)
        return flat_index // length, flat_index % length

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the best span as ``begin * SPAN_BASE + end`` [B], in characters, as tokens depend on the tokenizer."""
        begin, end = self.best_span(logits, batch)
        return batch["begins"].gather(1, begin[:, None])[:, 0] * SPAN_BASE + batch["ends"].gather(1, end[:, None])[:, 0]

    def confidences(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        p = logits.softmax(-1)
        tokens = enumerate(self.best_span(logits, batch))
        begin, end = (p[:, part].gather(1, token[:, None])[:, 0] for part, token in tokens)
        return begin * end

    def update_metrics(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        predictions, answers = [], []
        for index, prediction in zip(batch["row"].tolist(), self.predictions(logits, batch), strict=True):
            row = self.validation_row(index)
            predictions.append({"prediction_text": self.prediction_text(prediction, row), "id": str(index)})
            answers.append({"answers": row["answers"], "id": str(index)})
        metrics.update(predictions, answers)

    def prediction_text(self, prediction: Tensor, row: dict[str, Any]) -> str:
        context: str = row["context"]
        return context[slice(*divmod(int(prediction), SPAN_BASE))]

    def input_text(self, row: dict[str, Any]) -> str:
        return f"{row['question']} · {row['context']}"

    def label_text(self, row: dict[str, Any]) -> str:
        texts: list[str] = row["answers"]["text"]
        return texts[0]


def _answer_error(answers: object, context: str) -> str:
    """Return the error in the answers of a row; empty if there is none."""
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        return "'answers' has no 'text' and 'answer_start'"
    texts, starts = answers["text"], answers["answer_start"]
    if not isinstance(texts or [], list) or not isinstance(starts or [], list):
        return "'text' and 'answer_start' of 'answers' are not lists"
    if not texts or len(texts) != len(starts or []):
        return "'answers' has no answer; questions without one are not supported"
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip() or not isinstance(start, int):
            return f"'answers' has {text!r} at {start!r}, not a text at a character position"
    if starts[0] < 0 or not context.startswith(texts[0], starts[0]):
        return f"the answer {texts[0]!r} is not at character {starts[0]} of the context"
    return ""
