"""What a class from outside must be to have a name in YAML, checked when its module is imported."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Annotated, Any, ClassVar, get_args, get_origin

from distill.config.schema import descendants, is_plain, members_of, schema_of, yaml_name


def check_classes(classes: Iterable[type], bases: list[type]) -> None:
    """Check all classes of a module that was imported.

    Args:
        classes: below ``bases``.
        bases: the classes of a config.

    Raises:
        ValueError: at the first that could not be used, with its file and line.
    """
    for cls in sorted(classes, key=lambda cls: (cls.__module__, location(cls))):
        own = [base for base in bases if issubclass(cls, base) and inspect.isabstract(base)]
        if own and (wrong := fault(cls, own[0])):
            raise ValueError(f"{location(cls)}: {cls.__name__} {wrong}")


def fault(cls: type, base: type) -> str:
    """Return what keeps a class below ``base`` from being used in a config; nothing, if nothing does."""
    if "__dataclass_fields__" not in vars(cls) and (names := _annotated(cls)):
        return f"has fields ({', '.join(names)}) and is no dataclass; write @dataclass(kw_only=True, …) above it"
    if base.__hash__ is not None and cls.__hash__ is None:
        return f"cannot be hashed, as a {base.__name__} must be; write @dataclass(kw_only=True, eq=False) above it"
    for name, hint in _hints(cls).items():
        if not _is_readable(hint):
            return f"has a field {name} that YAML cannot hold: {hint}"
    if cls.__name__.startswith("_"):
        return ""
    if not _is_documented(cls):
        return "has no docstring; its first line is what --help says of it"
    if inspect.isabstract(cls):
        if cls.__subclasses__() or any(getattr(value, "__isabstractmethod__", False) for value in vars(cls).values()):
            return ""  # a base for others
        return f"is not finished: a {base.__name__} has {', '.join(sorted(cls.__abstractmethods__))}, too"
    for other in descendants(base):
        if other is not cls and not inspect.isabstract(other) and yaml_name(other) == yaml_name(cls):
            return f"has the name of another {base.__name__} ({location(other)}); choose another name"
    return ""


def location(cls: type) -> str:
    """Return where a class is defined, as ``file:line``."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
    try:
        return f"{file}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return file


def _annotated(cls: type) -> list[str]:
    hints = inspect.get_annotations(cls)
    return [name for name, hint in hints.items() if "ClassVar" not in str(hint) and get_origin(hint) is not ClassVar]


def _hints(cls: type) -> dict[str, Any]:
    try:
        return schema_of(cls)
    except NameError as error:
        raise ValueError(f"{location(cls)}: {cls.__name__} has a field of an unknown type: {error}") from None


def _is_documented(cls: type) -> bool:
    """Whether a class has a docstring that is not the signature that ``dataclass`` writes where there is none."""
    text = vars(cls).get("__doc__")
    return bool(text) and not text.startswith(f"{cls.__name__}(")


def _is_readable(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return True
    for member in members_of(hint):
        if get_origin(member) in (list, dict):
            if not all(_is_readable(inner) for inner in get_args(member)):
                return False
        elif not (is_plain(member) or is_dataclass(member)):
            return False
    return True
