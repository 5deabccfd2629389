"""The task of writing a text for a text: translation, summaries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from datasets import Dataset
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.text import SacreBLEUScore
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from distill.tasks.columns import bad_texts, named, room_for
from distill.tasks.task import Predict
from distill.tasks.vocabulary import VocabularyTask
from students.asked import IGNORED


@dataclass(kw_only=True)
class Seq2Seq(VocabularyTask):
    """A text for each text, by an encoder and a decoder that predicts each token of the target from those before it.

    For BLEU the model writes by itself, always the likeliest next token.

    Args:
        source: the column that is read.
        target: the column that is to be written.
        metric: by which the best state is chosen; a lower perplexity is better.
    """

    head: ClassVar[type] = AutoModelForSeq2SeqLM
    label_noun: ClassVar[str] = "target tokens"

    source: str
    target: str
    metric: Literal["bleu", "perplexity", "accuracy"] = "bleu"

    def __post_init__(self):
        super().__post_init__()
        if self.augment:
            raise ValueError("augment: the target of a changed source is not known")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        named(table, "source", [self.source])
        named(table, "target", [self.target])
        room_for(tokenizer, self.max_length)
        self.end = tokenizer("a")["input_ids"][-1]
        if self.end not in tokenizer.all_special_ids:
            raise ValueError("target: the tokenizer does not mark the end of a text, so no model would stop writing")

    @property
    def columns(self) -> list[str]:
        return [self.source, self.target]

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        yield from bad_texts(table, self.columns)

    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        found = self.tokenizer(rows[self.source], truncation=True, max_length=self.max_length)
        labels = self.tokenizer(text_target=rows[self.target], truncation=True, max_length=self.max_length)["input_ids"]
        return dict(found) | {"labels": labels, "decoder_attention_mask": [[1] * len(ids) for ids in labels]}

    def metrics(self) -> MetricCollection:
        """BLEU as sacrebleu counts it, as a share (Post 2018, arXiv 1804.08771); perplexity and the share of right
        tokens, each after the true ones before it.
        """
        return MetricCollection({"bleu": SacreBLEUScore()} | dict(super().metrics()), compute_groups=False)

    def write(self, metrics: MetricCollection, predict: Predict, batch: dict[str, Tensor]) -> None:
        written = greedy(lambda given: self.select(predict(given), given), batch, self.end, self.max_length)
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        metrics["bleu"].update(texts, [[self.validation[row][self.target]] for row in batch["row"].tolist()])


def greedy(predict: Predict, batch: dict[str, Tensor], end: int, longest: int) -> Tensor:
    """What a model writes when it takes the likeliest next token each time, [B, T]; ``end`` from its end on.

    Args:
        predict: gives logits [B, T, V] of a batch with ``decoder_input_ids`` [B, T].
        batch: whose first decoder input starts a text.
        end: the token that ends a text.
        longest: tokens, after which it stops anyhow.
    """
    read = {name: value for name, value in batch.items() if name not in ("labels", "decoder_attention_mask")}
    written = read.pop("decoder_input_ids")[:, :1]
    at_work = torch.arange(len(written))
    while len(at_work) and written.shape[1] <= longest:
        text = written[at_work]
        # Of a vocabulary only what comes next is asked.
        asked = torch.full_like(text, IGNORED)
        asked[:, -1] = end
        token = predict(read | {"decoder_input_ids": text, "labels": asked})[:, -1].argmax(-1).to(written.device)
        following = written.new_full((len(written), 1), end)
        following[at_work, 0] = token
        written, going = torch.cat([written, following], 1), token != end
        if not going.all():  # who has ended is not asked again
            at_work, read = at_work[going.cpu()], {name: value[going] for name, value in read.items()}
    return written[:, 1:]
