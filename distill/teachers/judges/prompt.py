"""The prompt of a judge: text around the columns of a row, and the words by which it answers."""

from __future__ import annotations

import string
from dataclasses import dataclass

from distill.config.errors import suggest
from distill.tasks.classes import Classes
from distill.tasks.columns import list_names


@dataclass(frozen=True)
class Prompt:
    """A text with fields in braces, as in ``Review: {text}``; doubled braces are braces.

    Args:
        template: the text. A field is the name of a column of texts; ``{text}`` is the only one.

    Raises:
        ValueError: if there is no field, or a brace is not closed.
    """

    template: str

    def __post_init__(self) -> None:
        try:
            fields = self.fields
        except ValueError as error:
            raise ValueError(f"prompt: {error}; a brace that is none of a field is written twice") from None
        if not fields:
            raise ValueError("prompt: has no {text}, so it would be the same for all rows")

    @property
    def fields(self) -> list[str]:
        """The names in braces."""
        return [name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None]

    def check(self, columns: list[str]) -> None:
        """Check the fields against the columns of the texts.

        Raises:
            ValueError: if a field is none of them, or a column of a pair is missing.
        """
        known = [*columns, *(["text"] if len(columns) == 1 else [])]
        if wrong := next((name for name in self.fields if name not in known), None):
            raise ValueError(f"prompt: there is no text {wrong!r}{suggest(wrong, known, 'there are')}")
        if len(columns) == 2 and (missing := set(columns) - set(self.fields)):
            raise ValueError(f"prompt: the rows are pairs, and {{{min(missing)}}} is not in it")

    def fill(self, texts: dict[str, str]) -> str:
        """Return the prompt of a row, {column: text}, without white space at its end but for line breaks."""
        values = dict(texts) | ({"text": next(iter(texts.values()))} if len(texts) == 1 else {})
        return self.template.format(**values).rstrip(" \t")

    @property
    def ending(self) -> str:
        """The text after the last field, as ``fill`` leaves it."""
        last = [literal for literal, _, _, _ in string.Formatter().parse(self.template)][-1]
        return "" if list(string.Formatter().parse(self.template))[-1][1] is not None else last.rstrip(" \t")


def words_by_class(labels: dict[str, str], classes: Classes) -> list[str]:
    """Return the word of each class, in the order of the outputs.

    Args:
        labels: {label: its word}.
        classes: of the task.

    Raises:
        ValueError: if a label is none of the classes, or a class has no word.
    """
    words: dict[int, str] = {}
    for label, word in labels.items():
        output = classes.outputs.get(label, classes.names.index(label) if label in classes.names else None)
        if output is None:
            raise ValueError(f"labels: there is no label {label!r}{suggest(label, classes.names, 'there are')}")
        if output in words:
            raise ValueError(f"labels: {words[output]!r} and {word!r} are of one class; write one word")
        words[output] = word
    if missing := [name for output, name in enumerate(classes.names) if output not in words]:
        raise ValueError(f"labels: there is no word for {list_names(missing)}")
    return [words[output] for output in range(len(classes.names))]


def check_words(labels: dict[str, str]) -> None:
    """Check the words of the classes.

    Raises:
        ValueError: if there are fewer than two, one is empty, or two are alike.
    """
    if len(labels) < 2:
        raise ValueError("labels: write the word of each class, as in {0: negative, 1: positive}")
    if empty := next((label for label, word in labels.items() if not word.strip()), None):
        raise ValueError(f"labels: the word of {empty!r} is empty")
    folded = [word.strip().casefold() for word in labels.values()]
    if twice := next((word for word in folded if folded.count(word) > 1), None):
        raise ValueError(f"labels: {twice!r} is the word of two classes")


def check_tokens(words: list[str], tokens: list[list[int]]) -> None:
    """Check the tokens of the words: the model must tell all classes apart.

    Raises:
        ValueError: if a word has no tokens, or those of one begin those of another, which would always be as likely.
    """
    for word, ids in zip(words, tokens, strict=True):
        if not ids:
            raise ValueError(f"labels: {word!r} has no tokens")
        for other, other_ids in zip(words, tokens, strict=True):
            if word != other and other_ids[: len(ids)] == ids:
                raise ValueError(
                    f"labels: the tokens of {other!r} begin with those of {word!r}, so that it is never likelier; "
                    "choose other words"
                )
