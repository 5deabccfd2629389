"""Language modelling: the next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from distill.tasks.kinds.language.raw_text import DocumentPart, Language, boundary_tokens
from distill.tasks.task import Predict
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(kw_only=True)
class CausalLM(Language):
    """Next-token prediction.

    The tokenizer's initial special tokens are at the start of each document only, its end token at the end only. A
    piece begins with the last token of the one before it, so that each token but a document's first is predicted once.
    """

    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    pipeline: ClassVar[str] = "text-generation"
    writes_text: ClassVar[bool] = True

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if self.max_length < 2:
            raise ValueError("max_length: 1 leaves no token to predict")
        if not boundary_tokens(tokenizer)[1]:
            self.notes.append("the tokenizer has no end token, so models do not learn where a document ends")

    def make_pieces(self, parts: list[DocumentPart]) -> dict[str, list[Any]]:
        prefix, suffix = boundary_tokens(self.tokenizer)
        texts, pieces = [part.text for part in parts], []
        # For an empty list a tokenizer returns no "input_ids".
        plain = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        for part, ids in zip(parts, plain, strict=True):
            # The text may contain the special tokens already.
            begin = prefix if part.begins and ids[: len(prefix)] != prefix else []
            end = suffix if part.ends and ids[-len(suffix) :] != suffix else []
            document = [*begin, *ids, *end]
            pieces += [document[i : i + self.max_length] for i in range(0, len(document) - 1, self.max_length - 1)]
        return {"input_ids": pieces, "attention_mask": [[1] * len(ids) for ids in pieces]}

    def make_labels(self, ids: list[int]) -> list[int]:
        return [*ids[1:], IGNORED]

    def encode_inputs(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return prompts: texts without the token that ends a document."""
        prefix, _ = boundary_tokens(self.tokenizer)
        plain = self.tokenizer(rows[self.texts[0]], add_special_tokens=False)["input_ids"]
        pieces = [[*prefix, *ids][: self.max_length] for ids in plain]
        return {"input_ids": pieces, "attention_mask": [[1] * len(ids) for ids in pieces]}

    def outputs(self, model: PreTrainedModel | None, predict: Predict, batch: dict[str, Tensor]) -> list[Tensor]:
        """Return the tokens that a model writes after each text, one after the other: padding would be in between."""
        from distill.tasks.writing import generate  # not above: it imports transformers

        texts = []
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
            prompt = ids[mask][None]
            written = generate(model, {"input_ids": prompt}, self.max_length)
            texts.append(written[0, prompt.shape[1] :])
        return texts
