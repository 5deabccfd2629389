"""Sequence-to-sequence tasks: translation, summarization."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from distill.tasks.columns import bad_texts, check_columns, check_max_length
from distill.tasks.kinds.language.vocabulary import VocabularyTask
from distill.tasks.task import Predict

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(kw_only=True)
class Seq2Seq(VocabularyTask):
    """A target text for each source text, by an encoder and a decoder that predicts each token from those before it.

    For BLEU the model generates texts greedily: for the report, and during training only if BLEU chooses the best
    checkpoint.

    Args:
        source: the column of the input text.
        target: the column of the text to generate.
        metric: by which the best checkpoint is chosen; a lower perplexity is better.
    """

    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    pipeline: ClassVar[str] = "text2text-generation"
    label_noun: ClassVar[str] = "target tokens"
    writes_text: ClassVar[bool] = True

    source: str
    target: str
    metric: Literal["bleu", "perplexity", "accuracy"] = "bleu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augment:
            raise ValueError("augment: the target of a changed source is not known")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        check_columns(table, "source", [self.source])
        check_columns(table, "target", [self.target])
        check_max_length(tokenizer, self.max_length)
        self.end = tokenizer("a")["input_ids"][-1]
        if self.end not in tokenizer.all_special_ids:
            raise ValueError("target: the tokenizer adds no end token to a text, so no model would stop generating")
        self.ends = {self.end}
        """The tokens with which a model ends a text."""

    @property
    def input_columns(self) -> list[str]:
        return [self.source]

    @property
    def columns(self) -> list[str]:
        return [self.source, self.target]

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        yield from bad_texts(table, self.columns)

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoding = self.encode_inputs(rows)
        labels = self.tokenizer(text_target=rows[self.target], truncation=True, max_length=self.max_length)["input_ids"]
        return encoding | {"labels": labels, "decoder_attention_mask": [[1] * len(ids) for ids in labels]}

    def outputs(self, model: PreTrainedModel | None, predict: Predict, batch: dict[str, Tensor]) -> Tensor:
        """Return the tokens that the model writes, greedily."""
        from distill.tasks.writing import generate  # not above: it imports transformers

        return generate(model, batch, self.max_length)

    def add_end_tokens(self, settings: GenerationConfig | None) -> None:
        ends = getattr(settings, "eos_token_id", None)
        self.ends |= set(ends if isinstance(ends, list) else [ends]) - {None}

    def metrics(self) -> MetricCollection:
        """Return BLEU as sacrebleu counts it, from 0 to 1 (Post 2018, arXiv 1804.08771), perplexity and token accuracy.

        The last two are of each token after the true ones before it.
        """
        from torchmetrics import MetricCollection  # not above: it takes seconds
        from torchmetrics.text import SacreBLEUScore

        return MetricCollection({"bleu": SacreBLEUScore(), **dict(super().metrics().items())}, compute_groups=False)

    def training_metrics(self) -> MetricCollection:
        """Leave out BLEU, which needs generated texts, unless it chooses the best checkpoint."""
        return self.metrics() if self.metric == "bleu" else super().metrics()

    def update_generation_metrics(self, metrics: MetricCollection, predict: Predict, batch: dict[str, Tensor]) -> None:
        if "bleu" not in metrics:
            return
        from distill.tasks.writing import CachedGenerator, greedy_generate  # not above: it imports transformers

        others = sorted(self.ends - {self.end})
        if isinstance(predict, CachedGenerator):
            tokens = predict.generate(batch, self.end, self.max_length, others, vocabulary_size=len(self.tokenizer))
        else:

            def select(inputs: dict[str, Tensor]) -> Tensor:
                return self.select_logits(predict(inputs), inputs)

            tokens = greedy_generate(select, batch, self.end, self.max_length, others)
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        metrics["bleu"].update(texts, [[self.validation_row(row)[self.target]] for row in batch["row"].tolist()])
