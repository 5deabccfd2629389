"""What a class says of its configuration: fields, hints, subclasses and how they are spelt in YAML."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


def selector(base: type) -> str:
    """The key that names a subclass of ``base``: ``kind``, unless the class says otherwise."""
    return getattr(base, "selector", "kind")


def yaml_name(cls: type) -> str:
    """A class as it is written in YAML: its name; in snake case where it is chosen by ``name``, as the hub's tasks."""
    return cls.__name__ if selector(cls) == "kind" else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


def descendants(base: type) -> list[type]:
    """Return all classes below a class in depth, each once, without those of a module that is no longer there."""
    found = {}
    for child in base.__subclasses__():
        if child.__module__ in sys.modules:
            found |= dict.fromkeys([child, *descendants(child)])
    return list(found)


def subclasses(base: type) -> dict[str, type]:
    """Return the concrete classes below a class, and itself, by the name in YAML; without private ones (``_Name``)."""
    found = {}
    for cls in (base, *descendants(base)):
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_"):
            name = yaml_name(cls)
            if found.setdefault(name, cls) is not cls:
                raise TypeError(f"two classes are called {name}: {cls} and {found[name]}")
    return found


def field_classes(cls: type) -> list[type]:
    """Return the classes that the fields of a dataclass hold, also inside mappings and lists."""
    hints = [m for hint in schema_of(cls).values() for m in members_of(hint)]
    inside = [
        m for hint in hints if get_origin(hint) in (dict, list) for arg in get_args(hint) for m in members_of(arg)
    ]
    return list(dict.fromkeys(m for m in [*hints, *inside] if is_dataclass(m)))


def reachable(schema: type) -> list[type]:
    """Return a dataclass and all that its fields, and those of their subclasses, hold, in the order they come up."""
    classes = [schema]
    for cls in classes:
        for user in (cls, *subclasses(cls).values()):
            classes += [found for found in field_classes(user) if found not in classes]
    return classes


def key_meant(name: str, classes: dict[str, type]) -> str:
    """Return where a name belongs that was given as one of ``classes`` and is, or is nearly, a key of theirs or a class
    there: ``; write low_rank: {...} beside 'kind'``. Empty if it is none.
    """
    places = {}
    for cls in classes.values():
        for key, hint in schema_of(cls).items():
            for member in (m for m in members_of(hint) if is_dataclass(m)):
                for kind in subclasses(member):
                    inner = f"{selector(member)}: {kind}, ..." if inspect.isabstract(member) else "..."
                    place = f"; write {key}: {{{inner}}} beside {selector(cls)!r}"
                    places |= {word.lower(): place for word in ({kind} if inspect.isabstract(member) else {kind, key})}
    near = difflib.get_close_matches(name.lower(), [*map(str.lower, classes), *places], 1, 0.55)
    return places.get(near[0], "") if near else ""


def arguments(function: Callable, without: set[str]) -> dict[str, Any]:
    """The plain parameters of a library's function: {name: hint}, those of other types and ``without`` left out."""
    hints = get_type_hints(function)
    open_ = {name: hint for name, hint in hints.items() if name not in without | {"return"}}
    plain = {name: [m for m in members_of(hint) if is_plain(m)] for name, hint in open_.items()}
    return {name: reduce(or_, members) for name, members in plain.items() if set(members) - {types.NoneType}}


def members_of(hint: Any) -> list[Any]:
    """The alternatives of a union, or the hint alone."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


@cache
def schema_of(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that its constructor takes: {name: hint}."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


def plain_field(cls: type) -> str | None:
    """The field that a plain value stands for where an object of the class belongs, if the class names one."""
    return vars(cls).get("plain")


def check_names(key: str, names: Iterable[str]) -> None:
    """Raise ValueError unless these can be names of things in dotted keys, curves and files: words of up to 64
    letters, digits, ``_`` and ``-``.
    """
    for name in names:
        if not re.fullmatch(r"[\w-]{1,64}", name):
            raise ValueError(f"{key}: {name!r} is no name; write up to 64 letters, digits, _ and -")


def is_plain(hint: Any) -> bool:
    """Whether a hint is made of numbers, texts, truth values, literals, lists and mappings alone."""
    if get_origin(hint) in (list, dict):
        return all(is_plain(m) for arg in get_args(hint) for m in members_of(arg))
    return hint in (int, float, str, bool, types.NoneType) or get_origin(hint) is Literal


def describe(hint: Any) -> str:
    """A hint in plain words."""
    if get_origin(hint) is Literal:
        return "one of " * (len(get_args(hint)) > 1) + ", ".join(map(str, get_args(hint)))
    if is_dataclass(hint):
        return f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"
    if get_origin(hint) is dict and is_dataclass(get_args(hint)[1]):
        return f"a mapping of names to {get_args(hint)[1].__name__}"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return {list: "a list", dict: "a mapping", Annotated: "a mapping"}.get(get_origin(hint)) or words[hint]


def names_at(value: Any, path: str) -> list[str]:
    """Return the fields of what lies at a dotted path below a value; none where that is no dataclass."""
    for name in path.split(".") if path else []:
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return [f.name for f in fields(value)] if is_dataclass(value) else []
