"""Objects back into YAML, complete and resolved."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import Any

import yaml

from distill.config.schema import members_of, plain_field, schema_of, selector, yaml_name


def dump(value: Any, hint: Any = None) -> Any:
    """Return the plain data (mappings, lists, numbers, texts) that reads back to an equal object, where ``hint`` is."""
    if is_dataclass(value):
        own = {name: dump(getattr(value, name), inner) for name, inner in schema_of(type(value)).items()}
        plain = plain_field(type(value))
        if plain and all(getattr(value, f.name) == f.default for f in fields(value) if f.init and f.name != plain):
            return own[plain]
        chosen = [base for base in type(value).__mro__ if inspect.isabstract(base) and is_dataclass(base)]
        if type(value) in members_of(hint):  # where no other class can be
            return own
        return ({selector(chosen[-1]): yaml_name(type(value))} if chosen else {}) | own
    if isinstance(value, dict):
        return {key: dump(item) for key, item in value.items()}
    return [dump(item) for item in value] if isinstance(value, list | tuple) else value


def to_yaml(value: Any) -> str:
    """The complete config as YAML, which reads back to an equal object."""
    return yaml.safe_dump(dump(value), sort_keys=False, width=110)
