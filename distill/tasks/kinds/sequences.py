"""The task of writing a text for a text: translation, summaries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor

from distill.tasks.columns import bad_texts, named, room_for
from distill.tasks.kinds.vocabulary import VocabularyTask
from distill.tasks.task import Predict

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import GenerationConfig, PreTrainedTokenizerBase


@dataclass(kw_only=True)
class Seq2Seq(VocabularyTask):
    """A text for each text, by an encoder and a decoder that predicts each token of the target from those before it.

    For BLEU the model writes by itself, always the likeliest next token: while it trains only if the best state is
    chosen by it, and for the report.

    Args:
        source: the column that is read.
        target: the column that is to be written.
        metric: by which the best state is chosen; a lower perplexity is better.
    """

    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
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
        self.ends = {self.end}
        """The tokens with which a model ends a text."""

    @property
    def columns(self) -> list[str]:
        return [self.source, self.target]

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        yield from bad_texts(table, self.columns)

    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        found = self.tokenizer(rows[self.source], truncation=True, max_length=self.max_length)
        labels = self.tokenizer(text_target=rows[self.target], truncation=True, max_length=self.max_length)["input_ids"]
        return dict(found) | {"labels": labels, "decoder_attention_mask": [[1] * len(ids) for ids in labels]}

    def end_as(self, settings: GenerationConfig | None) -> None:
        ends = getattr(settings, "eos_token_id", None)
        self.ends |= set(ends if isinstance(ends, list) else [ends]) - {None}

    def metrics(self) -> MetricCollection:
        """BLEU as sacrebleu counts it, as a share (Post 2018, arXiv 1804.08771); perplexity and the share of right
        tokens, each after the true ones before it.
        """
        from torchmetrics import MetricCollection  # not above: it takes seconds
        from torchmetrics.text import SacreBLEUScore

        return MetricCollection({"bleu": SacreBLEUScore()} | dict(super().metrics()), compute_groups=False)

    def metrics_in_training(self) -> MetricCollection:
        """Without BLEU, for which texts must be written, unless the best state is chosen by it."""
        return self.metrics() if self.metric == "bleu" else super().metrics()

    def write(self, metrics: MetricCollection, predict: Predict, batch: dict[str, Tensor]) -> None:
        if "bleu" not in metrics:
            return
        from distill.tasks.writing import Writer, greedy  # not above: it takes transformers

        others = sorted(self.ends - {self.end})
        if isinstance(predict, Writer):
            written = predict.greedy(batch, self.end, self.max_length, others, tokens=len(self.tokenizer))
        else:

            def select(given: dict[str, Tensor]) -> Tensor:
                return self.select(predict(given), given)

            written = greedy(select, batch, self.end, self.max_length, others)
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        metrics["bleu"].update(texts, [[self.validation[row][self.target]] for row in batch["row"].tolist()])
