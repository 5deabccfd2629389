"""The whole schema is one that the reader, the printer and the help understand."""

import types
from dataclasses import is_dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest

from distill.config.schema import (
    field_classes,
    required_keys,
    schema_of,
    shorthand_field,
    subclasses,
    suggest_key,
    union_members,
)
from distill.experiment.experiment import Experiment
from distill.experiment.help import field_docs
from losses.loss import Loss
from students.kinds.student import Student


def reachable() -> list[type]:
    """Every class that a file can name or holds in a field."""
    classes = [Experiment]
    for cls in classes:
        members = [c for c in subclasses(cls).values() if not c.__module__.startswith("tests.")]  # not tests
        classes += [c for c in [*members, *field_classes(cls)] if c not in classes]
    return classes


def alien(hint: Any) -> list[Any]:
    """The parts of an annotation that the reader does not know."""
    if get_origin(hint) is Annotated:
        return [part for inner in hint.__metadata__[0]().values() for part in alien(inner)]
    if get_origin(hint) in (Union, types.UnionType, list, dict):
        return [part for inner in get_args(hint) for part in alien(inner)]
    known = hint in (int, float, str, bool, type(None)) or get_origin(hint) is Literal or is_dataclass(hint)
    return [] if known else [hint]


def told_apart(first: type, second: type) -> bool:
    """Whether two classes share no key, each needs one that the other lacks, or one needs more than the other.

    The reader takes that of most keys and, of these, that of most needed ones.
    """
    keys = [schema_of(cls).keys() for cls in (first, second)]
    needed = [set(required_keys(cls)) for cls in (first, second)]
    apart = bool(needed[0] - keys[1] and needed[1] - keys[0])
    return not keys[0] & keys[1] or apart or needed[0] < needed[1] or needed[1] < needed[0]


@pytest.mark.parametrize("cls", reachable(), ids=lambda cls: cls.__name__)
def test_a_class_of_the_schema(cls: type) -> None:
    for name, hint in schema_of(cls).items():
        assert alien(hint) == [], f"{cls.__name__}.{name} is annotated with what no file can say"
        members = union_members(hint)
        assert sum(get_origin(m) is dict for m in members) <= 1 and sum(get_origin(m) is list for m in members) <= 1, (
            f"{cls.__name__}.{name}: the shape of the node does not decide the union"
        )
        assert all(told_apart(*pair) for pair in combinations([m for m in members if is_dataclass(m)], 2)), (
            f"{cls.__name__}.{name}: the keys of the node do not tell the classes apart"
        )
    assert [name for name in schema_of(cls) if not field_docs(cls).get(name)] == [], (
        f"fields of {cls.__name__} without a sentence"
    )
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("), f"{cls.__name__} has no docstring"


@pytest.mark.parametrize("cls", reachable(), ids=lambda cls: cls.__name__)
def test_a_plain_value_stands_for_one_class_at_most(cls: type) -> None:
    assert len([c for c in subclasses(cls).values() if shorthand_field(c)]) <= 1


def test_the_walk_reaches_what_files_name() -> None:
    names = {cls.__name__ for cls in reachable()}
    assert {
        "Classification",
        "Teacher",
        "Pretrained",
        "Transformer",
        "Logits",
        "Relations",
        "Magnitude",
        "Quantize",
        "Optimizer",
        "Constant",
        "Cubic",
        "TimePoint",
        "Tracking",
    } <= names


def test_alien_annotations_are_seen() -> None:
    assert alien(dict[str, tuple[int, int]] | None) == [tuple[int, int]]
    assert alien(list[Path]) == [Path]
    assert alien(float | Literal["auto"] | list[int]) == []


def test_a_name_is_suggested_another_key_only_if_it_resembles_it() -> None:
    assert "write share_layers" in suggest_key("Shared", subclasses(Student))
    assert suggest_key("Hellinger", subclasses(Loss)) == "", "is not the Linear of a weight"
