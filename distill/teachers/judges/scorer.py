"""The log-probabilities of words after a prompt, by a causal language model."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.teachers.judges.prompt import Prompt, check_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Scorer:
    """Scores the words of the classes after each of several prompts.

    A batch of prompts is run once, for all classes; words of several tokens go on from its keys and values. Prompts are
    padded on the left, and what is computed does not depend on the others of a batch.

    Args:
        model: a causal language model.
        tokenizer: of it.
        prompt: whose ``ending`` stands before a word.
        words: of the classes.
        is_chat: whether the prompt is a message in the tokenizer's chat template, and a word the beginning of a reply.

    Raises:
        ValueError: if a word has no tokens, or those of one begin those of another.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Prompt,
        words: list[str],
        is_chat: bool = False,
    ):
        self.model, self.tokenizer, self.prompt, self.is_chat = model.eval(), tokenizer, prompt, is_chat
        self.words = [self._tokens_after("" if is_chat else prompt.ending, word) for word in words]
        check_tokens(words, self.words)
        self.takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        limit = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
        self.max_tokens = min(limit, tokenizer.model_max_length) - max(map(len, self.words))
        self.num_cut = 0
        """The number of rows whose texts were cut, so that their prompts fit into the model."""

    def _tokens_after(self, ending: str, word: str) -> list[int]:
        """Return the tokens of a word as they stand after a text."""
        separator = "" if not ending or ending.endswith("\n") else " "
        before = self.tokenizer(ending, add_special_tokens=False)["input_ids"] if ending else []
        whole = self.tokenizer(ending + separator + word.strip(), add_special_tokens=False)["input_ids"]
        if whole[: len(before)] == before:
            return whole[len(before) :]
        return self.tokenizer(separator + word.strip(), add_special_tokens=False)["input_ids"]

    def prompt_tokens(self, texts: dict[str, str]) -> list[int]:
        """Return the tokens of the prompt of a row; too long texts lose their ends, the longest one first.

        Raises:
            ValueError: if the prompt is too long without any text.
        """
        ids = self._encode(texts)
        if len(ids) <= self.max_tokens:
            return ids
        self.num_cut += 1
        texts = dict(texts)
        while len(ids) > self.max_tokens:
            column = max(texts, key=lambda name: len(texts[name]))
            if not texts[column]:
                raise ValueError(f"prompt: has {len(ids)} tokens without a text, and the model reads {self.max_tokens}")
            tokens = self.tokenizer(texts[column], add_special_tokens=False)["input_ids"]
            kept = self.tokenizer.decode(tokens[: max(0, len(tokens) - (len(ids) - self.max_tokens))])
            texts[column] = kept if len(kept) < len(texts[column]) else texts[column][:-1]
            ids = self._encode(texts)
        return ids

    def _encode(self, texts: dict[str, str]) -> list[int]:
        text = self.prompt.fill(texts)
        if not self.is_chat:
            ids = self.tokenizer(text)["input_ids"]
            ends = (self.tokenizer.eos_token_id, self.tokenizer.sep_token_id)
            return ids[:-1] if ids and ids[-1] in ends else ids  # a word goes on, which no ended text does
        message = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]

    @torch.no_grad()
    def log_probs(self, prompts: list[list[int]]) -> Tensor:
        """Return the log-probability of each class's word after each prompt, float32 [B, C]."""
        device, longest = self.model.device, max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **self._positions(mask, longest))
        first = output.logits[:, -1].float().log_softmax(-1)
        scores = torch.stack([first[:, word[0]] for word in self.words], 1)
        for label, word in enumerate(self.words):
            if len(word) > 1:
                scores[:, label] += self._rest(word, mask, copy.deepcopy(output.past_key_values))
        return scores.cpu()

    def _rest(self, word: list[int], mask: Tensor, cache: object) -> Tensor:
        """Return the log-probability of a word's tokens after its first one, [B]."""
        count = len(word) - 1
        ids = torch.tensor(word, device=mask.device).expand(len(mask), -1)
        mask = torch.cat([mask, mask.new_ones(len(mask), count)], 1)
        output = self.model(
            input_ids=ids[:, :-1],
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **self._positions(mask, count),
        )
        log_probs = output.logits.float().log_softmax(-1)
        return log_probs.gather(2, ids[:, 1:, None]).squeeze(2).sum(1)

    def _positions(self, mask: Tensor, count: int) -> dict[str, Tensor]:
        """Return the positions of the last ``count`` tokens, counted without padding, if the model takes them."""
        if not self.takes_positions:
            return {}
        return {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -count:]}
