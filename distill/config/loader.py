"""Build objects from YAML and overrides, or raise a one-line error with its location.

The dataclasses are the only schema. A key is a field. ``kind`` names a subclass of the annotated class. A scalar where
an object is expected sets the class's ``shorthand`` field: ``weight: 0.5`` is ``Constant(to=0.5)``. Pydantic validates
values, strictly.
"""

from __future__ import annotations

import inspect
import math
import types
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from distill.config.config import Config
from distill.config.errors import ConfigError, did_you_mean, location_of, suggest
from distill.config.imports import load_roots
from distill.config.nodes import construct_value, mapping_items, resolve_value
from distill.config.schema import (
    describe_type,
    is_plain_type,
    required_keys,
    schema_of,
    selector,
    shorthand_field,
    subclasses,
    suggest_key,
    union_members,
    yaml_name,
)

T = TypeVar("T")


def load(file: str | Path, schema: type[T], overrides: dict[str, Any] | None = None) -> Config[T]:
    """Load a file with a single document; see ``load_all``.

    Raises:
        ConfigError: at the first mistake, or at a second document.
    """
    config, *others = load_all(file, schema, overrides)
    if others:
        raise ConfigError(f"{others[0].locations['']}: a second document, where one is expected")
    return config


def load_all(file: str | Path, schema: type[T], overrides: dict[str, Any] | None = None) -> list[Config[T]]:
    """Load each document of a YAML file as an object of ``schema``; overrides apply to every document.

    Args:
        file: looked up as given, then in ``configs/``.
        schema: the dataclass of a whole document.
        overrides: {dotted key: value}; a string is parsed as YAML.

    Raises:
        ConfigError: at the first mistake.
    """
    configs = []
    for root in load_roots(file, schema, overrides or {}):
        config = Config(None)
        config.value = _Reader(config).read(root, schema, "")
        configs.append(config)
    return configs


class _Reader:
    """Converts the nodes of a document into objects and records the location of each key."""

    def __init__(self, config: Config):
        self.config = config

    def read(self, node: yaml.Node, hint: Any, path: str) -> Any:
        self.config.locations[path] = location_of(node)
        if get_origin(hint) is Annotated:
            return self.read_arguments(node, hint.__metadata__[0](), path)
        members = union_members(hint)
        classes = [m for m in members if is_dataclass(m)]
        if isinstance(node, yaml.MappingNode):
            dicts = [m for m in members if get_origin(m) is dict]
            if dicts and not (classes and selector(classes[0]) in mapping_items(node)):
                return self.read_dict(node, *get_args(dicts[0]), path)
            if classes:  # of several, the one with most of the keys, and then with most keys that it needs
                keys = mapping_items(node).keys()
                counts = {cls: (len(keys & schema_of(cls).keys()), len(keys & required_keys(cls))) for cls in classes}
                return self.read_object(node, max(classes, key=counts.__getitem__), path)
        elif isinstance(node, yaml.SequenceNode):
            lists = [m for m in members if get_origin(m) is list]
            if lists:
                return [self.read(item, get_args(lists[0])[0], f"{path}.{i}") for i, item in enumerate(node.value)]
        elif not (construct_value(node) is None and types.NoneType in members):
            for cls in (cls for member in classes for cls in subclasses(member).values()):
                if name := shorthand_field(cls):
                    return self.construct(cls, {name: self.read(node, schema_of(cls)[name], path)}, path)
        return self.read_plain(node, members, path)

    def read_plain(self, node: yaml.Node, members: list[Any], path: str) -> Any:
        value = construct_value(node)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.config.error(path, f"{value} is not a finite number")
        plain = [m for m in members if is_plain_type(m)]
        if (
            str in plain
            and not {int, float, bool} & set(plain)
            and isinstance(node, yaml.ScalarNode)
            and value is not None
        ):
            value = node.value  # a string needs no quotes, even if it looks like a number
        if plain:
            with suppress(ValidationError):
                valid = _adapter(reduce(or_, plain)).validate_python(value, strict=True)
                with self.config.error_context(path):
                    return resolve_value(valid)
        choices = [str(choice) for m in plain if get_origin(m) is Literal for choice in get_args(m)]
        expected = " or ".join(describe_type(m) for m in members if m is not types.NoneType)
        raise self.config.error(path, f"{value!r} is not {expected}{did_you_mean(value, choices)}")

    def read_object(self, node: yaml.MappingNode, base: type, path: str) -> Any:
        key, cls = selector(base), base
        keys = mapping_items(node)
        if inspect.isabstract(base):
            known = subclasses(base)
            if key not in keys:
                raise self.config.error(path, f"no '{key}'; expected one of {', '.join(known)}")
            name_node = keys.pop(key)[1]
            self.config.locations[f"{path}.{key}".strip(".")] = location_of(name_node)
            name = str(construct_value(name_node))
            if name not in known:
                hint = suggest_key(name, known) or suggest(name, known, "there are")
                raise self.config.error(f"{path}.{key}".strip("."), f"no {base.__name__} {name!r}{hint}")
            cls = known[name]
        schema, given = schema_of(cls), {}
        # Trainer arguments last: importing Lightning takes seconds, and another key may be misspelt.
        order = sorted(keys.items(), key=lambda item: get_origin(schema.get(item[0])) is Annotated)
        for name, (key_node, value_node) in order:
            inner = f"{path}.{name}".strip(".")
            if name not in schema:
                self.config.locations[inner] = location_of(key_node)
                raise self.config.error(inner, f"{yaml_name(cls)} has no {name!r}{suggest(name, schema)}")
            given[name] = self.read(value_node, schema[name], inner)
        missing = [name for name in required_keys(cls) if name not in given]
        if missing:
            raise self.config.error(path, f"{yaml_name(cls)} needs {', '.join(repr(name) for name in missing)}")
        return self.construct(cls, given, path)

    def construct(self, cls: type, given: dict[str, Any], path: str) -> Any:
        with self.config.error_context(path):
            return cls(**given)

    def read_dict(self, node: yaml.MappingNode, key_hint: Any, hint: Any, path: str) -> dict:
        entries = {}
        for name, (key_node, value_node) in mapping_items(node).items():
            inner = f"{path}.{name}"
            if is_dataclass(hint) and key_node.start_mark.name.startswith(f"--{path}."):
                known = [k for k, (n, _) in mapping_items(node).items() if n is not key_node]
                raise ConfigError(f"--{inner}: {path} has no {name!r}{suggest(name, known)}")
            if is_dataclass(hint) and construct_value(value_node) is None:
                continue  # an override removes an entry by null
            self.config.locations[inner] = location_of(key_node)
            entries[self.read_plain(key_node, [key_hint], inner)] = self.read(value_node, hint, inner)
        return entries

    def read_arguments(self, node: yaml.Node, allowed: dict[str, Any], path: str) -> dict:
        if not isinstance(node, yaml.MappingNode):
            raise self.config.error(path, "expected a mapping")
        for name, (key_node, _) in mapping_items(node).items():
            if name not in allowed:
                self.config.locations[f"{path}.{name}"] = location_of(key_node)
                message = f"not a Trainer argument that a config can set{did_you_mean(name, allowed)}"
                raise self.config.error(f"{path}.{name}", message)
        return {
            name: self.read(value, allowed[name], f"{path}.{name}") for name, (_, value) in mapping_items(node).items()
        }


@cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint)
