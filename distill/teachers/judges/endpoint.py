"""A language model behind an HTTP address as the teacher of a classifier."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from distill.teachers.judges.client import BadAnswer, Client
from distill.teachers.judges.judge import Judge, Save

_MOST_ALTERNATIVES = 20
"""The largest number of alternatives to a token that OpenAI's servers give; others take it."""
_FLOOR = -20.0
"""The log-probability of a class whose word is not among the alternatives."""


@dataclass(kw_only=True)
class Endpoint(Judge):
    """A model behind an OpenAI-compatible address (vLLM, llama.cpp, Ollama, a provider) that judges texts.

    One request a text, ``POST /chat/completions`` for one token with its alternatives (``top_logprobs``). A class has
    the probability of the alternatives that begin its word, and no other class's; one without any has e^-20. Requests
    are repeated with growing pauses where the server is busy, stalls, fails or answers nonsense. Answers are kept as
    they come, so that an interrupted run goes on where it was.

    Args:
        endpoint: the address, as in ``http://localhost:8000/v1``.
        model: the name by which the server knows the model.
        prompt: the message, with ``{text}``, or the names of the columns of a pair in braces; it should ask for one of
            the words alone.
        labels: the word of each label, as in {0: negative, 1: positive}; no two may begin with the same letter.
        calibrate: divide by the probabilities after the prompt without a text (Zhao et al. 2021, arXiv 2102.09690).
        max_requests: refuse to send more; the number that is needed is told before the first one.
        parallel: number of requests at a time.
        timeout: seconds to wait for an answer.
        key_variable: the environment variable that holds the key; it is written nowhere.
        check: refuse a teacher that is no better on validation data than the most frequent class, before the first
            step.
    """

    endpoint: str
    model: str
    max_requests: int = 10_000
    parallel: int = 8
    timeout: float = 60.0
    key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint: an address begins with http:// or https://, not {self.endpoint!r}")
        for name in ("max_requests", "parallel", "timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be above 0, not {getattr(self, name)}")
        initials = [word.strip()[0].casefold() for word in self.labels.values()]
        if twice := next((letter for letter in initials if initials.count(letter) > 1), None):
            words = " and ".join(repr(w) for w in self.labels.values() if w.strip()[0].casefold() == twice)
            raise ValueError(f"labels: {words} may begin with the same token, which is all that is asked for")

    @property
    def identity(self) -> dict[str, object]:
        return {"endpoint": self.endpoint, "model": self.model}

    def ask(self, rows: dict[str, dict[str, str]], words: list[str], save: Save) -> list[str]:
        if len(rows) > self.max_requests:
            characters = sum(map(len, rows))
            raise ValueError(
                f"max_requests: {len(rows):,} requests are needed, of some {characters // 4:,} tokens, and "
                f"{self.max_requests:,} may be sent; write max_requests: {len(rows)}"
            )
        client, unknown = Client(self.endpoint, os.environ.get(self.key_variable, ""), self.timeout), 0
        with ThreadPoolExecutor(self.parallel) as pool:
            futures = {pool.submit(self._ask_one, client, prompt, words): prompt for prompt in rows}
            try:
                for future in tqdm(as_completed(futures), total=len(futures), desc="asking", leave=False):
                    answer = future.result()
                    unknown += max(answer) == _FLOOR
                    save([futures[future]], [answer])
            finally:
                pool.shutdown(cancel_futures=True)
        notes = [f"asked {len(rows):,} times"]
        if unknown:
            notes.append(
                f"{unknown:,} answers name no class, and count as undecided; the prompt must ask for the words"
            )
        if 2 * unknown > len(rows):
            raise ValueError(f"prompt: {unknown:,} of {len(rows):,} answers name none of {', '.join(words)}")
        return notes

    def _ask_one(self, client: Client, prompt: str, words: list[str]) -> list[float]:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": _MOST_ALTERNATIVES,
        }
        return client.post("/chat/completions", body, lambda answer: word_log_probs(_alternatives(answer), words))


def word_log_probs(alternatives: Iterable[tuple[str, float]], words: list[str]) -> list[float]:
    """Return the logarithm of the probability of each word's beginnings among the alternatives of a token."""
    probabilities = [0.0] * len(words)
    for token, log_prob in alternatives:
        beginning = token.strip().casefold()
        for i, word in enumerate(words):
            if beginning and word.strip().casefold().startswith(beginning):
                probabilities[i] += math.exp(min(log_prob, 0.0))
    return [max(math.log(p), _FLOOR) if p > 0 else _FLOOR for p in probabilities]


def _alternatives(answer: Any) -> list[tuple[str, float]]:
    """Return (token, log-probability) of the first token's alternatives.

    Raises:
        BadAnswer: if the answer has none, or a number that is none.
    """
    try:
        alternatives = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        pairs = [(str(one["token"]), float(one["logprob"])) for one in alternatives]
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadAnswer("answers without log-probabilities (logprobs)") from None
    if not pairs or any(math.isnan(log_prob) for _, log_prob in pairs):
        raise BadAnswer("answers with log-probabilities that are no numbers")
    return pairs
