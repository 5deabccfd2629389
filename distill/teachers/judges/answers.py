"""The answers of a judge on disk: one line for each prompt, so that nothing is asked twice."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Answer = list[float]
"""The log-probabilities of the words of the classes, in the order of the config."""


class Answers:
    """Answers by the hash of their prompt. A line that is damaged or incomplete counts as missing.

    Args:
        path: of the file, which need not exist.
        count: the number of classes.
    """

    def __init__(self, path: Path, count: int):
        self.path, self.count = path, count
        self.by_key: dict[str, Answer] = {}
        self.read()

    def read(self) -> None:
        """Read what is in the file now."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                key, answer = json.loads(line)
            except ValueError:  # the process was killed while it wrote the line
                continue
            if isinstance(answer, list) and len(answer) == self.count and all(isinstance(x, float) for x in answer):
                self.by_key[key] = answer

    def get(self, prompt: str) -> Answer | None:
        """Return the answer to a prompt; None if there is none."""
        return self.by_key.get(key_of(prompt))

    def missing(self, prompts: list[str]) -> list[str]:
        """Return the prompts without an answer, each once, in their order."""
        return [prompt for prompt in dict.fromkeys(prompts) if self.get(prompt) is None]

    def add(self, prompts: list[str], answers: list[Answer]) -> None:
        """Append answers to the file."""
        for prompt, answer in zip(prompts, answers, strict=True):
            self.by_key[key_of(prompt)] = answer
        lines = [json.dumps([key_of(prompt), self.by_key[key_of(prompt)]]) for prompt in prompts]
        with self.path.open("a", encoding="utf-8") as file:
            # A line break first: the last line may be incomplete.
            file.write("\n" + "\n".join(lines) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process ask at a time; the others find its answers afterwards."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.read()
            yield


def key_of(prompt: str) -> str:
    """Return the hash of a prompt."""
    return hashlib.blake2b(prompt.encode(), digest_size=12).hexdigest()
