"""Checks of user-defined classes, made when their module is imported."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Annotated, Any, ClassVar, get_args, get_origin

from distill.config.schema import descendants, is_plain_type, schema_of, union_members, yaml_name


def check_classes(classes: Iterable[type], bases: list[type]) -> None:
    """Check all classes of an imported module.

    Args:
        classes: subclasses of ``bases``.
        bases: the base classes that a config can hold.

    Raises:
        ValueError: at the first unusable class, with its file and line.
    """
    for cls in sorted(classes, key=lambda cls: (cls.__module__, location(cls))):
        parents = [base for base in bases if issubclass(cls, base) and inspect.isabstract(base)]
        if parents and (message := class_error(cls, parents[0])):
            raise ValueError(f"{location(cls)}: {cls.__name__} {message}")


def class_error(cls: type, base: type) -> str:
    """Return why a subclass of ``base`` cannot be used in a config; empty if it can."""
    if "__dataclass_fields__" not in vars(cls) and (names := _annotated_names(cls)):
        return f"has fields ({', '.join(names)}) and is no dataclass; write @dataclass(kw_only=True, …) above it"
    if base.__hash__ is not None and cls.__hash__ is None:
        return f"cannot be hashed, as a {base.__name__} must be; write @dataclass(kw_only=True, eq=False) above it"
    for name, hint in _hints(cls).items():
        if not _is_readable(hint):
            return f"has a field {name} that YAML cannot hold: {hint}"
    if cls.__name__.startswith("_"):
        return ""
    if not _is_documented(cls):
        return "has no docstring; --help shows its first line"
    if inspect.isabstract(cls):
        if cls.__subclasses__() or any(getattr(value, "__isabstractmethod__", False) for value in vars(cls).values()):
            return ""  # a base for others
        return f"is abstract: implement {', '.join(sorted(cls.__abstractmethods__))} of {base.__name__}"
    for other in descendants(base):
        if other is not cls and not inspect.isabstract(other) and yaml_name(other) == yaml_name(cls):
            if other.__module__ != cls.__module__ and location(other) == location(cls):
                return "is imported twice, by its file and by the name of its module; import it in one way"
            return f"has the same name as another {base.__name__} ({location(other)}); choose another name"
    return ""


def location(cls: type) -> str:
    """Return the ``file:line`` at which a class is defined."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
    try:
        return f"{file}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return file


def _annotated_names(cls: type) -> list[str]:
    hints = inspect.get_annotations(cls)
    return [name for name, hint in hints.items() if "ClassVar" not in str(hint) and get_origin(hint) is not ClassVar]


def _hints(cls: type) -> dict[str, Any]:
    try:
        return schema_of(cls)
    except NameError as error:
        raise ValueError(f"{location(cls)}: {cls.__name__} has a field of an unknown type: {error}") from None


def _is_documented(cls: type) -> bool:
    """Return whether a class has a docstring other than the signature that ``dataclass`` fills in."""
    docstring = vars(cls).get("__doc__")
    return bool(docstring) and not docstring.startswith(f"{cls.__name__}(")


def _is_readable(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return True
    for member in union_members(hint):
        if get_origin(member) in (list, dict):
            if not all(_is_readable(inner) for inner in get_args(member)):
                return False
        elif not (is_plain_type(member) or is_dataclass(member)):
            return False
    return True
