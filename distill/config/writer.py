"""Write objects as YAML, complete and resolved."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import Any

import yaml

from distill.config.schema import schema_of, selector, shorthand_field, union_members, yaml_name


def dump(value: Any, hint: Any = None) -> Any:
    """Return the plain data (mappings, lists, numbers, strings) from which the reader builds an equal object.

    Args:
        value: to be written.
        hint: the type of the field that holds it.
    """
    if is_dataclass(value):
        data = {name: dump(getattr(value, name), inner) for name, inner in schema_of(type(value)).items()}
        short = shorthand_field(type(value))
        if short and all(getattr(value, f.name) == f.default for f in fields(value) if f.init and f.name != short):
            return data[short]
        bases = [base for base in type(value).__mro__ if inspect.isabstract(base) and is_dataclass(base)]
        if type(value) in union_members(hint):  # the class is fixed, so it needs no selector
            return data
        return ({selector(bases[-1]): yaml_name(type(value))} if bases else {}) | data
    if isinstance(value, dict):
        return {key: dump(item) for key, item in value.items()}
    return [dump(item) for item in value] if isinstance(value, list | tuple) else value


def to_yaml(value: Any) -> str:
    """Return the complete config as YAML, from which the reader builds an equal object."""
    return yaml.safe_dump(dump(value), sort_keys=False, width=110)
