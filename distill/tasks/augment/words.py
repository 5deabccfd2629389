"""Augmentation by other words: each in the place of one that means nearly the same."""

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
    """Words become one of those nearest to them, by the cosine of a model's embeddings (TinyBERT, Jiao et al. 2019,
    arXiv 1909.10351, which asks a masked language model where the word is a single token).

    A word of several tokens stays. Rows are drawn anew in each epoch; the paper makes 20 copies of each beforehand.

    Args:
        model: whose embeddings, commonly the teacher's: a hub name, a folder, or an earlier run.
        share: the probability for a word, 0.4 in the paper.
        candidates: as many nearest words are to choose from, each as likely.
    """

    model: str
    share: float = 0.4
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
                raise ValueError(f"augment: model: {self.model} reads other tokens than the teacher and the student")
            embeddings = embedding_matrix(AutoModel.from_pretrained(source, dtype=torch.float32, **NO_REMOTE_CODE))
        self.pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        marks = [mark for mark in "Ġ▁" if any(piece.startswith(mark) for piece in self.pieces)]
        self.mark = marks[0] if marks else ""
        """What stands before the first token of a word: byte-level and SentencePiece tokenizers have such a mark."""
        whole = re.compile(rf"{self.mark}[^\W\d_]{{2,}}")
        self.is_word = [i not in self.special and bool(whole.fullmatch(piece)) for i, piece in enumerate(self.pieces)]
        self.words = torch.tensor(self.is_word).nonzero().squeeze(1)
        if len(self.words) <= self.candidates:
            raise ValueError(f"augment: candidates: the tokenizer has {len(self.words)} words that are one token")
        self.embeddings = torch.nn.functional.normalize(embeddings, dim=-1)
        self.nearest: dict[int, list[int]] = {}

    def apply(self, row: Row, draw: torch.Generator) -> Row:
        ids = row["input_ids"]
        chosen = torch.rand(len(ids), generator=draw) < self.share
        picked = torch.randint(self.candidates, (len(ids),), generator=draw)
        changed = [
            self.near(token)[pick] if choose and self._stands_alone(ids, place) else token
            for place, (token, choose, pick) in enumerate(zip(ids, chosen.tolist(), picked.tolist(), strict=True))
        ]
        return row | {"input_ids": changed}

    def reach(self, tokens: set[int]) -> set[int]:
        return tokens.union(*(self.near(token) for token in tokens if self.is_word[token]))

    def near(self, word: int) -> list[int]:
        """The nearest other words of one, the nearest first."""
        if word not in self.nearest:
            alike = self.embeddings[self.words] @ self.embeddings[word]
            best = self.words[alike.topk(self.candidates + 1).indices].tolist()
            self.nearest[word] = [other for other in best if other != word][: self.candidates]
        return self.nearest[word]

    def _stands_alone(self, ids: list[int], place: int) -> bool:
        """Whether the token is a word, and the next does not go on with it."""
        following = ids[place + 1 : place + 2]
        if not self.is_word[ids[place]] or not following or following[0] in self.special:
            return self.is_word[ids[place]]
        piece = self.pieces[following[0]]
        return piece.startswith(self.mark) if self.mark else not piece.startswith("##")
