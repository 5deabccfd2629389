"""Augmentation by similar words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from distill.tasks.augment.augmentation import Augmentation, Row
from students.kinds.student import resolve
from students.loading.adapters import NO_REMOTE_CODE, explain_remote_code, load_tokenizer
from students.structure.tensor_train import embedding_matrix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class WordReplacement(Augmentation):
    """Words become one of their nearest words, by the cosine of a model's embeddings.

    From TinyBERT (Jiao et al. 2019, arXiv 1909.10351), which uses a masked language model for words of one token. A
    word of several tokens stays. Rows are drawn anew in each epoch; the paper makes 20 copies of each beforehand.

    Args:
        model: whose embeddings are used, commonly the teacher's: a hub name, a folder, or an earlier run.
        probability: for a word, 0.4 in the paper.
        candidates: the number of nearest words, from which one is drawn uniformly.
    """

    model: str
    probability: float = 0.4
    candidates: int = 15

    def __post_init__(self):
        super().__post_init__()
        if self.candidates < 1:
            raise ValueError(f"candidates: must be at least 1, not {self.candidates}")

    def setup(self, tokenizer: PreTrainedTokenizerBase) -> None:
        from transformers import AutoModel  # not above: a config is read without transformers

        from students.loading.hub import loading

        super().setup(tokenizer)
        source = resolve(self.model)
        with loading(source), explain_remote_code(source):
            if load_tokenizer(source).get_vocab() != tokenizer.get_vocab():
                raise ValueError(
                    f"augment: model: {self.model} has another vocabulary than the teacher and the student"
                )
            embeddings = embedding_matrix(AutoModel.from_pretrained(source, dtype=torch.float32, **NO_REMOTE_CODE))
        self.pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        prefixes = [prefix for prefix in "Ġ▁" if any(piece.startswith(prefix) for piece in self.pieces)]
        self.word_prefix = prefixes[0] if prefixes else ""
        """The marker before the first token of a word, in byte-level and SentencePiece tokenizers."""
        word = re.compile(rf"{self.word_prefix}[^\W\d_]{{2,}}")
        self.is_word = [i not in self.special_ids and bool(word.fullmatch(p)) for i, p in enumerate(self.pieces)]
        self.words = torch.tensor(self.is_word).nonzero().squeeze(1)
        if len(self.words) <= self.candidates:
            raise ValueError(f"augment: candidates: the tokenizer has only {len(self.words)} words of one token")
        self.embeddings = torch.nn.functional.normalize(embeddings, dim=-1)
        self.nearest: dict[int, list[int]] = {}

    def apply(self, row: Row, generator: torch.Generator) -> Row:
        ids = row["input_ids"]
        selected = (torch.rand(len(ids), generator=generator) < self.probability).tolist()
        ranks = torch.randint(self.candidates, (len(ids),), generator=generator).tolist()
        replaced = [
            self.nearest_words(token)[rank] if is_selected and self._is_whole_word(ids, position) else token
            for position, (token, is_selected, rank) in enumerate(zip(ids, selected, ranks, strict=True))
        ]
        return row | {"input_ids": replaced}

    def reachable_tokens(self, tokens: set[int]) -> set[int]:
        return tokens.union(*(self.nearest_words(token) for token in tokens if self.is_word[token]))

    def nearest_words(self, word: int) -> list[int]:
        """Return the nearest other words of a word, the nearest first."""
        if word not in self.nearest:
            similarities = self.embeddings[self.words] @ self.embeddings[word]
            nearest = self.words[similarities.topk(self.candidates + 1).indices].tolist()
            self.nearest[word] = [other for other in nearest if other != word][: self.candidates]
        return self.nearest[word]

    def _is_whole_word(self, ids: list[int], position: int) -> bool:
        """Return whether the token is a word that the next token does not continue."""
        next_ids = ids[position + 1 : position + 2]
        if not self.is_word[ids[position]] or not next_ids or next_ids[0] in self.special_ids:
            return self.is_word[ids[position]]
        piece = self.pieces[next_ids[0]]
        return piece.startswith(self.word_prefix) if self.word_prefix else not piece.startswith("##")
