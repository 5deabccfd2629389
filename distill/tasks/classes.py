"""The mapping between label values of the data and outputs of a model.

A value and an output belong together by name (case and whitespace ignored), by number if one side has no names, or as
``task.labels`` says. Any other correspondence would be a guess and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distill.tasks.columns import list_names

if TYPE_CHECKING:
    from datasets.features.features import FeatureType


@dataclass
class Classes:
    """The classes of a task in the order of the outputs.

    Args:
        names: of the classes.
        numbers: the number of each class in the data; None if the data has only a name for it.
        outputs: {label value as text: output}; by default each name is a value.
        named: whether ``names`` are more than numbers.
        explicit: whether they come from ``task.labels``; then a model can have outputs that no row has.
        feature: the names of the column's ``ClassLabel`` feature, if it has one.
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
    def from_column(cls, feature: FeatureType, values: Iterable[int | str | None], labels: dict[str, str]) -> Classes:
        """Return the classes of a column.

        Args:
            feature: the column's type; a ``ClassLabel`` names its classes.
            values: of the column.
            labels: ``task.labels``; empty if it is not given.
        """
        from datasets import ClassLabel  # not above: a config is read without datasets

        names = list(feature.names) if isinstance(feature, ClassLabel) else []
        if labels:
            return cls.from_labels(labels, names)
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
    def from_labels(cls, labels: dict[str, str], feature: list[str]) -> Classes:
        """Return the classes of ``task.labels``, {value or its name: name or number of the class}."""
        by_number = all(target.isdecimal() for target in labels.values())
        targets = sorted(set(labels.values()), key=int) if by_number else list(dict.fromkeys(labels.values()))
        outputs = {value: targets.index(target) for value, target in labels.items()}
        values = [[value for value in labels if labels[value] == target] for target in targets]
        if by_number:
            numbers, names = list(map(int, targets)), [" or ".join(class_values) for class_values in values]
        else:  # a class has the number of its value, if it has one value
            numbers = [_number(class_values[0], feature) if len(class_values) == 1 else None for class_values in values]
            names = targets
        return cls(names, numbers, outputs, named=not by_number, explicit=True, feature=feature)

    def key(self, value: int | str) -> str:
        """Return the key of a label value in ``outputs``."""
        if isinstance(value, str):
            return value
        name = self.feature[value] if 0 <= value < len(self.feature) else ""
        return name if name in self.outputs else str(int(value))

    def label_id(self, value: int | str) -> int:
        """Return the output of a label value."""
        return self.outputs[self.key(value)]

    def labels(self) -> dict[str, str]:
        """Return {label value: its class}; empty for a regression."""
        return {value: self.names[output] for value, output in self.outputs.items() if self.names[output]}

    def label_error(self, value: object) -> str:
        """Return the error of a label value, as the end of a message; empty if it is a class."""
        if isinstance(value, float):
            return "; a class is a whole number or a text, and real numbers are for regression"
        if not isinstance(value, int | str):
            return "; a class is a whole number or a text"
        if isinstance(value, str) and len(value.splitlines()) > 1:
            return "; a class has no line breaks, so a quote mark before it may be open"
        if self.key(value) in self.outputs:
            return ""
        # Data sets use -1 for a missing label; only the user knows if it is a class.
        negative = not isinstance(value, str) and value < 0 and not self.explicit
        hint = "; a negative number is a class only where task.labels names it" if negative else ""
        return f", not one of {list_names(list(self.outputs if self.explicit else self.names))}{hint}"

    def order(self, head: list[str]) -> list[int]:
        """Return for each class the index of its output in a model with these output names.

        Raises:
            ValueError: if neither names nor numbers determine the order, with both lists.
        """
        orders = [self._by_number(head)] if self.explicit and not self.named else [self._by_name(head)]
        if is_unnamed(head) or not self.named:
            orders.append(self._by_number(head))
        for order in orders:
            is_complete = len(set(order)) == len(self.names) and None not in order
            if is_complete and (self.explicit or len(head) == len(self.names)):
                return order
        raise ValueError(self._mismatch(head))

    def _by_name(self, head: list[str]) -> list[int | None]:
        """Return the index of each output by name; exact if some names differ only in case and whitespace."""
        fold = _folded if all(len(set(map(_folded, names))) == len(names) for names in (head, self.names)) else str
        indices = {fold(name): i for i, name in enumerate(head)}
        order = [indices.get(fold(name)) for name in self.names]
        if self.named:
            return order
        return [indices.get(str(n)) if i is None else i for i, n in zip(order, self.numbers, strict=True)]

    def _by_number(self, head: list[str]) -> list[int | None]:
        return [n if n is not None and n < len(head) else None for n in self.numbers]

    def _mismatch(self, head: list[str]) -> str:
        outputs, classes = (list_names(names) for names in (head, self.names))
        if self.explicit:
            return f"the outputs are {outputs}, which are not all the classes that task.labels names: {classes}"
        if len(head) != len(self.names):
            counts = f"{len(head)} outputs ({outputs}), the data {len(self.names)} classes ({classes})"
            return f"it has {counts}; if that is intended, write task.labels: {{value: output, …}}"
        mismatch = f"its outputs are {outputs}, the classes of the data {classes}, and no names or numbers match"
        return f"{mismatch}; write task.labels: {{value: output, …}}"

    def follow(self, head: list[str]) -> None:
        """Take the order of a model's outputs, and its names if it has any.

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
    """Return whether outputs have the default names of transformers."""
    return head == [f"LABEL_{i}" for i in range(len(head))]


def label_kind_of(feature: FeatureType) -> object:
    """Return the kind of a label column, which must be equal in all files: class names, ``texts`` or ``numbers``."""
    return getattr(feature, "names", None) or ("texts" if "string" in str(feature.dtype) else "numbers")


def _folded(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()


def _number(value: str, feature: list[str] = ()) -> int | None:
    return list(feature).index(value) if value in feature else int(value) if value.isdecimal() else None
