"""The task of answering a question by a piece of a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from distill.tasks.columns import named, room_for
from distill.tasks.task import DataTask
from losses.loss import valid_tokens
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import PreTrainedTokenizerBase

LONGEST = 30
"""Tokens of an answer."""
FAR = 2**32
"""More characters than a context has."""


@dataclass(kw_only=True)
class QuestionAnswering(DataTask):
    """A piece of the context for each question; the data has the columns of SQuAD: question, context, answers.

    Two distributions are predicted, where the answer begins and where it ends. A context that is too long is cut off,
    a question never, and a question whose answer is cut off with it is not learnt from, and counts as not answered.

    Args:
        metric: by which the best state is chosen.
    """

    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    predicts_positions: ClassVar[bool] = True
    label_noun: ClassVar[str] = "answers"
    label_lost: ClassVar[dict[str, str]] = {"train": "are not learnt", "validation": "count as not answered"}

    max_length: int = 384
    metric: Literal["f1", "exact_match"] = "f1"

    def __post_init__(self):
        super().__post_init__()
        for step in self.augmentations():
            if step.shortens:
                raise ValueError("augment: a shortened context may have lost the answer")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        named(table, "data", self.columns)
        if not tokenizer.is_fast:
            raise ValueError("data: the tokenizer does not tell which token stands where in the text")
        room_for(tokenizer, self.max_length, pair=True)

    @property
    def columns(self) -> list[str]:
        return ["question", "context", "answers"]

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        asked = [text if isinstance(text, str) else "" for text in table["question"]]
        lengths = [len(ids) for ids in self.tokenizer(asked, add_special_tokens=False)["input_ids"]]
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
            if wrong := _wrong(answers, str(context)):
                yield row, wrong

    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        """Besides, ``begins`` and ``ends`` [S]: where each token of the context stands in it, 0 and 0 elsewhere."""
        found = self.tokenizer(
            rows["question"],
            rows["context"],
            truncation="only_second",
            max_length=self.max_length,
            return_offsets_mapping=True,
        )
        offsets = found.pop("offset_mapping")
        more = {"begins": [], "ends": [], "labels": []}
        for i, answers in enumerate(rows["answers"]):
            places = [
                place if part == 1 else (0, 0) for part, place in zip(found.sequence_ids(i), offsets[i], strict=True)
            ]
            text, begin = answers["text"][0], answers["answer_start"][0]
            # Blanks around an answer are in no token.
            begin, end = begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
            first = [token for token, (b, e) in enumerate(places) if b <= begin < e]
            last = [token for token, (b, e) in enumerate(places) if b < end <= e]
            more["labels"].append([first[0], last[-1]] if first and last else [IGNORED, IGNORED])
            for key, values in zip(("begins", "ends"), zip(*places, strict=True), strict=True):
                more[key].append(list(values))
        return dict(found) | more

    def targets(self, labels: list[int]) -> int:
        """One, of two tokens, or none."""
        return int(labels[0] != IGNORED)

    @property
    def main_metric(self) -> str:
        """``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Exact match and F1 of the words, over the best of several true answers (Rajpurkar 2016, arXiv 1606.05250)."""
        from torchmetrics import MetricCollection  # not above: it takes seconds

        from distill.tasks.metrics import SquadShare

        return MetricCollection({name: SquadShare(name) for name in ("exact_match", "f1")})

    def select(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Of begin and end for each token, [B, S, 2], two distributions over the tokens, [B, 2, S]."""
        padding = ~valid_tokens(batch)[:, None]
        # Not minus infinity, of which the difference to itself is no number.
        return logits.transpose(1, 2).float().masked_fill(padding, -1e4)

    def likeliest(self, logits: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The first and the last token of the likeliest piece of the context, [B] each."""
        context = torch.where(batch["ends"] > 0, 0.0, -1e6)
        begin, end = (logits[:, part] + context for part in range(2))
        length = logits.shape[-1]
        allowed = torch.ones(length, length, device=logits.device).triu().tril(LONGEST - 1).bool()
        best = (begin[:, :, None] + end[:, None]).masked_fill(~allowed, -1e9).flatten(1).argmax(-1)
        return best // length, best % length

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """``begin * FAR + end`` [B] of the likeliest piece, in characters, which no tokenizer counts otherwise."""
        begin, end = self.likeliest(logits, batch)
        return batch["begins"].gather(1, begin[:, None])[:, 0] * FAR + batch["ends"].gather(1, end[:, None])[:, 0]

    def certainty(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        p = logits.softmax(-1)
        begin, end = (p[:, part].gather(1, at[:, None])[:, 0] for part, at in enumerate(self.likeliest(logits, batch)))
        return begin * end

    def judge(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        said, true = [], []
        for number, found in zip(batch["row"].tolist(), self.predictions(logits, batch), strict=True):
            row = self.validation[number]
            said.append({"prediction_text": self.words(found, row), "id": str(number)})
            true.append({"answers": row["answers"], "id": str(number)})
        metrics.update(said, true)

    def words(self, prediction: Tensor, row: dict) -> str:
        return row["context"][slice(*divmod(int(prediction), FAR))]

    def shown(self, row: dict) -> str:
        return f"{row['question']} · {row['context']}"

    def truth(self, row: dict) -> str:
        return row["answers"]["text"][0]


def _wrong(answers: object, context: str) -> str:
    """What is wrong with the answers of a row; nothing if they are right."""
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        return "'answers' has no 'text' and 'answer_start'"
    texts, starts = answers["text"], answers["answer_start"]
    if not isinstance(texts or [], list) or not isinstance(starts or [], list):
        return "'text' and 'answer_start' of 'answers' are not lists, of one or more answers"
    if not texts or len(texts) != len(starts or []):
        return "'answers' has no answer; questions without one are not this task"
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip() or not isinstance(start, int):
            return f"'answers' has {text!r} at {start!r}, not a text at a place"
    if starts[0] < 0 or not context.startswith(texts[0], starts[0]):
        return f"the answer {texts[0]!r} does not stand at {starts[0]}"
    return ""
