"""Which values of the data stand for which outputs of a model: the one place that joins the two.

A value and an output belong together by name (case and blanks ignored), by number where one side has no names, or as
``task.labels`` says. Nothing else is a proof, and what is not proved is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distill.tasks.columns import listed

if TYPE_CHECKING:
    from datasets.features.features import FeatureType


@dataclass
class Classes:
    """The classes of a task in the order of the outputs.

    Args:
        names: of the classes.
        numbers: of each class its number in the data; None where the data has only a name for it.
        outputs: {value of the data as text: output}; not given, each name is a value.
        named: whether ``names`` are more than numbers.
        explicit: whether they come from ``task.labels``: then a model may have outputs that no row has.
        feature: the names by which the column numbers its values, if it does.
    """

    names: list[str]
    numbers: list[int | None] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    named: bool = True
    explicit: bool = False
    feature: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.numbers = self.numbers or [None] * len(self.names)
        self.outputs = self.outputs or {name: i for i, name in enumerate(self.names)}

    @classmethod
    def of(cls, feature: FeatureType, values: Iterable[int | str | None], labels: dict[str, str]) -> Classes:
        """Those of a column.

        Args:
            feature: the column's type; a ``ClassLabel`` names its classes itself.
            values: of the column.
            labels: ``task.labels``; empty where it is not given.
        """
        from datasets import ClassLabel  # not above: a config is read without datasets

        names = list(feature.names) if isinstance(feature, ClassLabel) else []
        if labels:
            return cls.explicitly(labels, names)
        if names:
            return cls(names, list(range(len(names))), feature=names)
        values = {value for value in values if value is not None}
        if all(isinstance(value, int) for value in values):
            numbers = sorted(int(value) for value in values if value >= 0)
            from_zero = numbers == list(range(len(numbers)))
            names = [f"LABEL_{number}" if from_zero else str(number) for number in numbers]
            return cls(names, numbers, {str(number): i for i, number in enumerate(numbers)}, named=False)
        texts = sorted(map(str, values))
        return cls(texts, list(map(_number, texts)))

    @classmethod
    def explicitly(cls, labels: dict[str, str], feature: list[str]) -> Classes:
        """Those that ``task.labels`` names, {value or its name: name or number of the class}."""
        by_number = all(target.isdecimal() for target in labels.values())
        targets = sorted(set(labels.values()), key=int) if by_number else list(dict.fromkeys(labels.values()))
        outputs = {value: targets.index(target) for value, target in labels.items()}
        values = [[value for value in labels if labels[value] == target] for target in targets]
        if by_number:
            numbers, names = list(map(int, targets)), [" or ".join(some) for some in values]
        else:  # a class has the number of its value, if it has one value
            numbers = [_number(some[0], feature) if len(some) == 1 else None for some in values]
            names = targets
        return cls(names, numbers, outputs, named=not by_number, explicit=True, feature=feature)

    def key(self, value: int | str) -> str:
        """A value of the data as ``outputs`` has it."""
        if isinstance(value, str):
            return value
        name = self.feature[value] if 0 <= value < len(self.feature) else ""
        return name if name in self.outputs else str(int(value))

    def number(self, value: int | str) -> int:
        """The output that stands for a value of the data."""
        return self.outputs[self.key(value)]

    def labels(self) -> dict[str, str]:
        """{value of the data: its class}; none of a regression."""
        return {value: self.names[output] for value, output in self.outputs.items() if self.names[output]}

    def wrong(self, value: object) -> str:
        """What is wrong with a value of the data, to be said after it; nothing if it is a class."""
        if isinstance(value, float):
            return "; a class is a whole number or a text, and real numbers are for regression"
        if not isinstance(value, int | str):
            return "; a class is a whole number or a text"
        if isinstance(value, str) and len(value.splitlines()) > 1:
            return "; a class has no line breaks, so a quote mark before it may be open"
        if self.key(value) in self.outputs:
            return ""
        # Data sets write -1 where there is no label; where it is a class, only the user can know.
        negative = not isinstance(value, str) and value < 0 and not self.explicit
        hint = "; a negative number is a class only where task.labels names it" if negative else ""
        return f", not one of {listed(list(self.outputs if self.explicit else self.names))}{hint}"

    def order(self, head: list[str]) -> list[int]:
        """Of each class the output of a model whose outputs have these names.

        Raises:
            ValueError: if neither names nor numbers prove which output is which, showing both lists.
        """
        orders = [self._by_number(head)] if self.explicit and not self.named else [self._by_name(head)]
        if is_unnamed(head) or not self.named:
            orders.append(self._by_number(head))
        for order in orders:
            whole = len(set(order)) == len(self.names) and None not in order
            if whole and (self.explicit or len(head) == len(self.names)):
                return order
        raise ValueError(self._mismatch(head))

    def _by_name(self, head: list[str]) -> list[int | None]:
        """The outputs by name, exact where two of a side differ by case and blanks alone."""
        fold = _folded if all(len(set(map(_folded, names))) == len(names) for names in (head, self.names)) else str
        places = {fold(name): i for i, name in enumerate(head)}
        found = [places.get(fold(name)) for name in self.names]
        if self.named:
            return found
        return [places.get(str(n)) if i is None else i for i, n in zip(found, self.numbers, strict=True)]

    def _by_number(self, head: list[str]) -> list[int | None]:
        return [n if n is not None and n < len(head) else None for n in self.numbers]

    def _mismatch(self, head: list[str]) -> str:
        theirs, mine = (listed(names) for names in (head, self.names))
        if self.explicit:
            return f"the outputs are {theirs}, and not all the classes that task.labels names are among them: {mine}"
        if len(head) != len(self.names):
            counts = f"{len(head)} outputs ({theirs}), the data {len(self.names)} classes ({mine})"
            return f"it has {counts}; where that is meant, write task.labels: {{value: output, …}}"
        why = f"its outputs are {theirs}, the classes of the data {mine}, and no name or number joins them"
        return f"{why}; write which is which, as task.labels: {{value: output, …}}"

    def follow(self, head: list[str]) -> None:
        """Take the order of a model's outputs, and its names where it has any.

        Raises:
            ValueError: as ``order`` does.
        """
        order = self.order(head)
        classes = {output: i for i, output in enumerate(order)}
        unnamed = is_unnamed(head)
        numbers = [self.numbers[classes[i]] if i in classes else i if unnamed else None for i in range(len(head))]
        self.names = [self.names[classes[i]] if unnamed and i in classes else name for i, name in enumerate(head)]
        self.numbers, self.named = numbers, self.named or self.explicit or not unnamed
        self.outputs = {value: order[i] for value, i in self.outputs.items()}


def is_unnamed(head: list[str]) -> bool:
    """Whether outputs have the names that transformers gives to those that have none."""
    return head == [f"LABEL_{i}" for i in range(len(head))]


def kind_of(feature: FeatureType) -> object:
    """What must be the same of the labels in all files: names, or texts, or numbers."""
    return getattr(feature, "names", None) or ("texts" if "string" in str(feature.dtype) else "numbers")


def _folded(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()


def _number(value: str, feature: list[str] = ()) -> int | None:
    return list(feature).index(value) if value in feature else int(value) if value.isdecimal() else None
