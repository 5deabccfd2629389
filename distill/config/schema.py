"""The config schema of a class: its fields, type hints, subclasses and their names in YAML."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


def selector(base: type) -> str:
    """Return the key that selects a subclass of ``base``: its ``selector`` attribute, by default ``kind``."""
    return getattr(base, "selector", "kind")


def yaml_name(cls: type) -> str:
    """Return the name of a class in YAML: its name; in snake case if its selector is not ``kind``, as for tasks."""
    return cls.__name__ if selector(cls) == "kind" else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


def descendants(base: type) -> list[type]:
    """Return all direct and indirect subclasses, each once; classes of unloaded modules are left out."""
    classes = {}
    for child in base.__subclasses__():
        if child.__module__ in sys.modules:
            classes |= dict.fromkeys([child, *descendants(child)])
    return list(classes)


def subclasses(base: type) -> dict[str, type]:
    """Return the concrete public classes among ``base`` and its descendants: {name in YAML: class}."""
    classes = {}
    for cls in (base, *descendants(base)):
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_"):
            name = yaml_name(cls)
            if classes.setdefault(name, cls) is not cls:
                raise TypeError(f"two classes are called {name}: {cls} and {classes[name]}")
    return classes


def field_classes(cls: type) -> list[type]:
    """Return the dataclasses in the field types of a dataclass, also inside mappings and lists."""
    hints = [m for hint in schema_of(cls).values() for m in union_members(hint)]
    nested = [
        m for hint in hints if get_origin(hint) in (dict, list) for arg in get_args(hint) for m in union_members(arg)
    ]
    return list(dict.fromkeys(m for m in [*hints, *nested] if is_dataclass(m)))


def reachable(schema: type) -> list[type]:
    """Return a dataclass and the dataclasses reachable through its fields and subclasses, in order of discovery."""
    classes = [schema]
    for cls in classes:
        for owner in (cls, *subclasses(cls).values()):
            classes += [inner for inner in field_classes(owner) if inner not in classes]
    return classes


def suggest_key(name: str, classes: dict[str, type]) -> str:
    """Return a hint for a name that was given as ``kind`` but belongs under another key.

    Args:
        name: given where one of ``classes`` was expected.
        classes: by their names in YAML.

    Returns:
        ``; write low_rank: {...} beside 'kind'`` if the name is close to a key of the classes or to a class that such a
        key holds; else an empty string.
    """
    hints = {}
    for cls in classes.values():
        for key, hint in schema_of(cls).items():
            for member in (m for m in union_members(hint) if is_dataclass(m)):
                for kind in subclasses(member):
                    inner = f"{selector(member)}: {kind}, ..." if inspect.isabstract(member) else "..."
                    text = f"; write {key}: {{{inner}}} beside {selector(cls)!r}"
                    hints |= {word.lower(): text for word in ({kind} if inspect.isabstract(member) else {kind, key})}
    hints = {word: text for word, text in hints.items() if word[:3] == name[:3].lower()}  # Shared: share_layers
    matches = difflib.get_close_matches(name.lower(), [*map(str.lower, classes), *hints], 1, 0.55)
    return hints.get(matches[0], "") if matches else ""


def plain_parameters(function: Callable, exclude: set[str]) -> dict[str, Any]:
    """Return the parameters of a function that YAML can hold: {name: hint}.

    Args:
        function: with type hints.
        exclude: names of parameters to leave out.
    """
    hints = {name: hint for name, hint in get_type_hints(function).items() if name not in exclude | {"return"}}
    plain = {name: [m for m in union_members(hint) if is_plain_type(m)] for name, hint in hints.items()}
    return {name: reduce(or_, members) for name, members in plain.items() if set(members) - {types.NoneType}}


def union_members(hint: Any) -> list[Any]:
    """Return the members of a union, or a list of the hint itself."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


@cache
def schema_of(cls: type) -> dict[str, Any]:
    """Return the fields of a dataclass that its constructor takes: {name: hint}."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


def required_keys(cls: type) -> dict[str, None]:
    """Return the fields of a dataclass without a default, in their order."""
    required = [f.name for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING]
    return dict.fromkeys(required)


def shorthand_field(cls: type) -> str | None:
    """Return the field that a scalar sets where an object of the class is expected; None if there is none."""
    return vars(cls).get("shorthand")


def check_identifiers(key: str, names: Iterable[str]) -> None:
    """Check that names can be parts of dotted keys, metric names and file names.

    Raises:
        ValueError: at a name that is not 1 to 64 letters, digits, ``_`` and ``-``.
    """
    for name in names:
        if not re.fullmatch(r"[\w-]{1,64}", name):
            raise ValueError(f"{key}: {name!r} is not a valid name; write up to 64 letters, digits, _ and -")


def is_plain_type(hint: Any) -> bool:
    """Return whether a hint consists of numbers, strings, booleans, literals, lists and mappings only."""
    if get_origin(hint) in (list, dict):
        return all(is_plain_type(m) for arg in get_args(hint) for m in union_members(arg))
    return hint in (int, float, str, bool, types.NoneType) or get_origin(hint) is Literal


def describe_type(hint: Any) -> str:
    """Return a type hint in words."""
    if get_origin(hint) is Literal:
        return "one of " * (len(get_args(hint)) > 1) + ", ".join(map(str, get_args(hint)))
    if is_dataclass(hint):
        return f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"
    if get_origin(hint) is dict and is_dataclass(get_args(hint)[1]):
        return f"a mapping of names to {get_args(hint)[1].__name__}"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return {list: "a list", dict: "a mapping", Annotated: "a mapping"}.get(get_origin(hint)) or words[hint]


def field_names_at(value: Any, path: str) -> list[str]:
    """Return the field names of the dataclass at a dotted path below a value; an empty list if it is none."""
    for name in path.split(".") if path else []:
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return [f.name for f in fields(value)] if is_dataclass(value) else []
