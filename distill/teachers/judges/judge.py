"""The base class of judges: a prompt, words of the classes, answers that are kept."""

from __future__ import annotations

import hashlib
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch

from distill.teachers.judges.answers import Answer, Answers
from distill.teachers.judges.prompt import Prompt, check_words, words_by_class
from distill.teachers.recorded import RecordedOutputs

if TYPE_CHECKING:
    from distill.tasks.classes import Classes
    from distill.tasks.task import Task

Save = Callable[[list[str], list[Answer]], None]
"""Keeps the answers to some prompts."""


@dataclass(kw_only=True)
class Judge(RecordedOutputs, ABC):
    """Base of teachers that say how likely the word of each class is after a prompt with the texts of a row."""

    judges_texts: ClassVar[bool] = True

    prompt: str
    labels: dict[str, str]
    calibrate: bool = False
    check: bool = True

    def __post_init__(self) -> None:
        Prompt(self.prompt)
        check_words(self.labels)

    @property
    @abstractmethod
    def identity(self) -> dict[str, object]:
        """What its answers depend on besides prompts and words."""

    @abstractmethod
    def ask(self, rows: dict[str, dict[str, str]], words: list[str], save: Save) -> list[str]:
        """Ask for the log-probabilities of words after prompts, and save the answers as they come.

        Args:
            rows: {prompt: its texts by column}, in which prompts without texts are those of the calibration.
            words: of the classes.
            save: keeps answers.

        Returns:
            Notes for the user.

        Raises:
            ValueError: if it cannot be asked.
        """

    def set_up_task(self, task: Task, cache: Path) -> None:
        check_task(task)
        task.judge = TaskJudge(self.labels, {"": self}, {"": 1.0}, cache)

    def answers(self, cache: Path) -> Answers:
        """Return the answers that are kept in a folder, in a file named by all that they depend on."""
        settings = self.identity | {"words": list(self.labels.values())}
        name = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()
        return Answers(cache / f"judge-{name}.jsonl", len(self.labels))

    def judge(self, rows: list[dict[str, str]], classes: Classes, cache: Path) -> tuple[torch.Tensor, list[str]]:
        """Return the log-probabilities of the classes, float64 [N, C], which sum to 1 as probabilities, and notes."""
        ordered = words_by_class(self.labels, classes)
        prompt, words = Prompt(self.prompt), list(self.labels.values())
        prompt.check(list(rows[0]))
        texts = {prompt.fill(row): row for row in rows}
        empty = dict.fromkeys(rows[0], "")
        if self.calibrate:
            texts |= {prompt.fill(empty): empty}
        answers = self.answers(cache)
        with answers.locked():
            missing = answers.missing(list(texts))
            try:
                notes = self.ask({text: texts[text] for text in missing}, words, answers.add) if missing else []
            except BaseException:  # Ctrl-C, too
                if new := len(missing) - len(answers.missing(missing)):
                    print(f"teacher: {new:,} new answers are kept; another run asks only the rest", file=sys.stderr)
                raise
        if kept := len(texts) - len(missing):
            notes.append(f"{kept:,} of {len(texts):,} answers were kept from before ({answers.path.name})")
        scores = torch.tensor([answers.get(prompt.fill(row)) for row in rows], dtype=torch.float64)
        if self.calibrate:  # Zhao 2021, arXiv 2102.09690: divided by what the prompt says of no text
            scores -= torch.tensor(answers.get(prompt.fill(empty)), dtype=torch.float64)
        scores = scores[:, [words.index(word) for word in ordered]]
        return scores.log_softmax(-1), notes


def check_task(task: Task) -> None:
    """Raise ValueError if a task has no classes, by whose words a judge could answer."""
    if task.problem == "regression":
        raise ValueError("labels: a judge answers by the words of classes, and a regression has none")


@dataclass
class TaskJudge:
    """The judges of a task, as ``distill.tasks.soft_labels.RowJudge``.

    Args:
        labels: the word of each label, for messages those of the first judge.
        judges: by name.
        weights: of each, which sum to 1.
        cache: the folder of their answers.
    """

    labels: dict[str, str]
    judges: dict[str, Judge]
    weights: dict[str, float]
    cache: Path

    def outputs(self, classes: Classes) -> dict[str, str]:
        """Return {word: class}."""
        return dict(zip(words_by_class(self.labels, classes), classes.names, strict=True))

    def judge(self, rows: list[dict[str, str]], classes: Classes) -> tuple[list[list[float]], list[str]]:
        """Return the logarithm of the weighted mean of the judges' probabilities, [N, C], and notes."""
        parts, notes = [], []
        for name, judge in self.judges.items():
            try:
                log_probs, own_notes = judge.judge(rows, classes, self.cache)
            except ValueError as error:
                raise ValueError(f"judges: {name}: {error}" if name else str(error)) from error
            parts.append(log_probs + torch.tensor(self.weights[name], dtype=torch.float64).log())
            notes += [f"{name or 'teacher'}: {note}" for note in own_notes]
        return torch.stack(parts).logsumexp(0).tolist(), notes
