"""YAML and overrides into objects, or one line that says what is wrong and where.

The signatures of the classes are the only schema: a key is a field, ``kind`` names a subclass of the class annotated
there, and a plain value where an object belongs is the field that a class there calls ``plain`` (``weight: 0.5`` is
``Constant(to=0.5)``). Values are checked by pydantic, strictly.
"""

from __future__ import annotations

import inspect
import math
import types
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from distill.config.config import Config
from distill.config.imports import roots_of
from distill.config.nodes import (
    ConfigError,
    did_you_mean,
    keys_of,
    meant,
    place_of,
    usable,
    value_of,
)
from distill.config.schema import (
    describe,
    is_plain,
    key_meant,
    members_of,
    plain_field,
    schema_of,
    selector,
    subclasses,
    yaml_name,
)

T = TypeVar("T")


def load(file: str | Path, schema: type[T], overrides: dict[str, Any] | None = None) -> Config[T]:
    """``load_all`` of a file with one document.

    Raises:
        ConfigError: at the first mistake, or at a second document.
    """
    config, *others = load_all(file, schema, overrides)
    if others:
        raise ConfigError(f"{others[0].locations['']}: a second document, where one is expected")
    return config


def load_all(file: str | Path, schema: type[T], overrides: dict[str, Any] | None = None) -> list[Config[T]]:
    """Reads each document of a YAML file, with dotted overrides that hold for all, into an object of ``schema``.

    Args:
        file: sought as given, then in ``configs/``.
        schema: the dataclass of the whole.
        overrides: {dotted key: value}; a text is read as YAML.

    Raises:
        ConfigError: at the first mistake.
    """
    configs = []
    for root in roots_of(file, schema, overrides or {}):
        config = Config(None)
        config.value = _Reader(config).read(root, schema, "")
        configs.append(config)
    return configs


class _Reader:
    """One walk over the nodes of a file; notes the place of each key on the way."""

    def __init__(self, config: Config):
        self.config = config

    def read(self, node: yaml.Node, hint: Any, path: str) -> Any:
        self.config.locations[path] = place_of(node)
        if get_origin(hint) is Annotated:
            return self.read_arguments(node, hint.__metadata__[0](), path)
        members = members_of(hint)
        classes = [m for m in members if is_dataclass(m)]
        if isinstance(node, yaml.MappingNode):
            dicts = [m for m in members if get_origin(m) is dict]
            if dicts and not (classes and selector(classes[0]) in keys_of(node)):
                return self.read_dict(node, *get_args(dicts[0]), path)
            if classes:  # of several, the one to which most of the keys belong
                keys = keys_of(node).keys()
                return self.read_object(node, max(classes, key=lambda cls: len(keys & schema_of(cls).keys())), path)
        elif isinstance(node, yaml.SequenceNode):
            lists = [m for m in members if get_origin(m) is list]
            if lists:
                return [self.read(item, get_args(lists[0])[0], f"{path}.{i}") for i, item in enumerate(node.value)]
        elif not (value_of(node) is None and types.NoneType in members):
            for cls in (cls for member in classes for cls in subclasses(member).values()):
                if name := plain_field(cls):
                    return self.construct(cls, {name: self.read(node, schema_of(cls)[name], path)}, path)
        return self.read_plain(node, members, path)

    def read_plain(self, node: yaml.Node, members: list[Any], path: str) -> Any:
        value = value_of(node)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.config.error(path, f"{value} is no finite number")
        plain = [m for m in members if is_plain(m)]
        if (
            str in plain
            and not {int, float, bool} & set(plain)
            and isinstance(node, yaml.ScalarNode)
            and value is not None
        ):
            value = node.value  # a text needs no quotes, even if it looks like a number
        if plain:
            with suppress(ValidationError):
                found = _adapter(reduce(or_, plain)).validate_python(value, strict=True)
                with self.config.error_context(path):
                    return usable(found)
        choices = [str(choice) for m in plain if get_origin(m) is Literal for choice in get_args(m)]
        wanted = " or ".join(describe(m) for m in members if m is not types.NoneType)
        raise self.config.error(path, f"{value!r} is not {wanted}{did_you_mean(value, choices)}")

    def read_object(self, node: yaml.MappingNode, base: type, path: str) -> Any:
        key, cls = selector(base), base
        keys = keys_of(node)
        if inspect.isabstract(base):
            known = subclasses(base)
            if key not in keys:
                raise self.config.error(path, f"no '{key}'; expected one of {', '.join(known)}")
            name_node = keys.pop(key)[1]
            self.config.locations[f"{path}.{key}".strip(".")] = place_of(name_node)
            name = str(value_of(name_node))
            if name not in known:
                hint = key_meant(name, known) or meant(name, known, "there are")
                raise self.config.error(f"{path}.{key}".strip("."), f"no {base.__name__} {name!r}{hint}")
            cls = known[name]
        schema, given = schema_of(cls), {}
        # Arguments of a library last: it takes seconds to import it, and another key may be misspelt.
        order = sorted(keys.items(), key=lambda item: get_origin(schema.get(item[0])) is Annotated)
        for name, (key_node, value_node) in order:
            inner = f"{path}.{name}".strip(".")
            if name not in schema:
                self.config.locations[inner] = place_of(key_node)
                raise self.config.error(inner, f"{yaml_name(cls)} has no {name!r}{meant(name, schema)}")
            given[name] = self.read(value_node, schema[name], inner)
        needed = [f.name for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING]
        missing = [name for name in needed if name not in given]
        if missing:
            raise self.config.error(path, f"{yaml_name(cls)} needs {', '.join(repr(name) for name in missing)}")
        return self.construct(cls, given, path)

    def construct(self, cls: type, given: dict[str, Any], path: str) -> Any:
        with self.config.error_context(path):
            return cls(**given)

    def read_dict(self, node: yaml.MappingNode, key_hint: Any, hint: Any, path: str) -> dict:
        found = {}
        for name, (key_node, value_node) in keys_of(node).items():
            inner = f"{path}.{name}"
            if is_dataclass(hint) and key_node.start_mark.name.startswith(f"--{path}."):
                known = [k for k, (n, _) in keys_of(node).items() if n is not key_node]
                raise ConfigError(f"--{inner}: {path} has no {name!r}{meant(name, known)}")
            if is_dataclass(hint) and value_of(value_node) is None:
                continue  # an override takes an entry away by null
            self.config.locations[inner] = place_of(key_node)
            found[self.read_plain(key_node, [key_hint], inner)] = self.read(value_node, hint, inner)
        return found

    def read_arguments(self, node: yaml.Node, allowed: dict[str, Any], path: str) -> dict:
        if not isinstance(node, yaml.MappingNode):
            raise self.config.error(path, "expected a mapping")
        for name, (key_node, _) in keys_of(node).items():
            if name not in allowed:
                self.config.locations[f"{path}.{name}"] = place_of(key_node)
                why = f"no argument of Lightning's Trainer that a run leaves open{did_you_mean(name, allowed)}"
                raise self.config.error(f"{path}.{name}", why)
        return {name: self.read(value, allowed[name], f"{path}.{name}") for name, (_, value) in keys_of(node).items()}


@cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint)
