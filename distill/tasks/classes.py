"""The classes of a data set: their names, in the order of the head's outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from datasets import ClassLabel
from datasets.features.features import FeatureType


@dataclass
class Classes:
    """Names of classes, as the data numbers them and as the head puts them out."""

    data: list[str]
    names: list[str]

    @classmethod
    def of(cls, feature: FeatureType, values: Iterable[int | str | None]) -> Classes:
        """Those that a column names itself; else LABEL_0, LABEL_1, ... of numbers, and of texts the sorted texts."""
        if isinstance(feature, ClassLabel):
            return cls(feature.names, feature.names)
        known = {value for value in values if value is not None}
        if all(isinstance(value, int) for value in known):
            names = [f"LABEL_{i}" for i in range(max(known, default=0) + 1)]
        else:
            names = sorted(map(str, known))
        return cls(names, names)

    def follow(self, head: dict[int, str]) -> None:
        """Takes a head's order where its names are the data's, and its names where the data has numbers alone."""
        theirs = [head[i] for i in range(len(head))]
        if len(theirs) == len(self.names) and self.names[0].startswith("LABEL_"):
            self.data = self.names = theirs
        elif sorted(theirs) == sorted(self.names):
            self.names = theirs

    def number(self, value: int | str) -> int:
        """The output that stands for a value of the data."""
        return self.names.index(self.data[value] if isinstance(value, int) else value)

    def wrong(self, value: object) -> str:
        """What is wrong with a value of the data, to be said after it; nothing if it is a class."""
        if isinstance(value, float):
            return "; a class is a whole number or a text, and real numbers are for regression"
        known = 0 <= value < len(self.data) if isinstance(value, int) else value in self.data
        return "" if known else f", not one of {', '.join(self.names)}"


def kind_of(feature: FeatureType) -> object:
    """What must be the same of the labels in all files: names, or texts, or numbers."""
    return getattr(feature, "names", None) or ("texts" if "string" in str(feature.dtype) else "numbers")
