"""Language modelling: masked tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from distill.tasks.augment.augmentation import Row
from distill.tasks.kinds.language.raw_text import DocumentPart, Language
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class MaskedLM(Language):
    """Prediction of masked tokens, drawn anew in each epoch.

    Of 10 predicted tokens 8 become the mask, 1 a random token, and 1 stays (Devlin et al. 2018, arXiv 1810.04805).

    Args:
        mlm_probability: the probability that a token is predicted; at least one of each piece is.
    """

    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    pipeline: ClassVar[str] = "fill-mask"
    redraws_rows: ClassVar[bool] = True

    mlm_probability: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mlm_probability <= 1:
            raise ValueError(f"mlm_probability: must lie in (0, 1], not {self.mlm_probability}")

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if tokenizer.mask_token_id is None:
            raise ValueError("name: the tokenizer has no mask token; use causal_lm for such a model")
        self.special_ids = torch.tensor(tokenizer.all_special_ids)

    def make_pieces(self, parts: list[DocumentPart]) -> dict[str, list[Any]]:
        """Tokenize each document with special tokens at both ends of each piece, as encoders expect."""
        texts, special_ids = [part.text for part in parts] or [""], set(self.tokenizer.all_special_ids)
        encoding = self.tokenizer(texts, truncation=True, max_length=self.max_length, return_overflowing_tokens=True)
        # A piece of special tokens only has nothing to mask.
        indices = [i for i, ids in enumerate(encoding["input_ids"]) if not special_ids.issuperset(ids)]
        return {name: [encoding[name][i] for i in indices] for name in encoding if name != "overflow_to_sample_mapping"}

    def make_labels(self, ids: list[int]) -> list[int]:
        return [IGNORED] * len(ids)

    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return ``tokens``: for each mask of the text the most probable token ``text`` and its probability."""
        ids = torch.tensor(self.encode_inputs({name: [row[name]] for name in self.input_columns})["input_ids"][0])
        masks = (ids == self.tokenizer.mask_token_id).nonzero().flatten()
        scores, tokens = logits[masks, : len(self.tokenizer)].float().softmax(-1).max(-1)
        pairs = zip(tokens.tolist(), scores.tolist(), strict=True)
        return {
            "tokens": [{"text": str(self.tokenizer.decode([token])).strip(), "score": score} for token, score in pairs]
        }

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
