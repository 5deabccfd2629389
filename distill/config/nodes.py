"""YAML nodes with their locations: parse a text, override a key, read a value."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from distill.config.aliases import MAX_DEPTH, MAX_SIZE, expand
from distill.config.errors import ConfigError, did_you_mean, location_of


class _Loader(yaml.SafeLoader):
    """A YAML 1.1 loader that reads ``3e-5`` as a number, as YAML 1.2 does, and limits nesting (slow in PyYAML)."""

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        self._go_deeper()
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        self._go_deeper()
        return super().add_indent(column)

    def _go_deeper(self) -> None:
        if self.flow_level + len(self.indents) >= MAX_DEPTH:
            raise yaml.scanner.ScannerError(None, None, f"nested deeper than {MAX_DEPTH} levels", self.get_mark())


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def shipped_configs() -> Path:
    """Return the folder of the configs that come with distill: in an installed one within it, else at the top."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_file(file: str | Path) -> Path:
    """Return the path of a YAML file, looked up as given and then among the shipped configs.

    Raises:
        ConfigError: if there is no such file.
    """
    shipped = shipped_configs()
    path = next((p for p in (Path(file), shipped / file, shipped / f"{file}.yaml") if p.is_file()), None)
    if path is None and not Path(file).is_dir() and os.path.exists(file):
        raise ConfigError(f"{file}: is not a regular file; write the config to a file")
    if path is None:
        hint = did_you_mean(
            Path(file).name, [p.name for p in [*shipped.glob("*.yaml"), *Path(file).parent.glob("*.yaml")]]
        )
        raise ConfigError(
            f"{file}: is a folder, not a file" if Path(file).is_dir() else f"{file}: there is no such file{hint}"
        )
    return path


def load_documents(file: str | Path) -> list[yaml.Node]:
    """Return the root node of each document of a YAML file, looked up by ``find_file``.

    Raises:
        ConfigError: if there is no such file, or it is not YAML.
    """
    path = find_file(file)
    if (size := path.stat().st_size) > MAX_SIZE:
        raise ConfigError(f"{file}: is too large for a config, it has {size:,} bytes")
    try:
        return _parse(path.read_text("utf-8"), str(file))
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not a text in UTF-8") from None


def parse_override(text: str, key: str) -> yaml.Node:
    """Return the root node of the YAML text of an override ``--key``."""
    nodes = _parse(text, key)
    if len(nodes) > 1:
        raise ConfigError(f"{key}: not valid YAML: expected a single document in the stream")
    return nodes[0]


def _parse(text: str, name: str) -> list[yaml.Node]:
    """Return the root node of each document of a text; a null node for an empty text.

    Args:
        text: YAML.
        name: the file or ``--key`` that holds it, for messages.
    """
    nodes = []
    try:
        loader = _Loader(text)
        loader.name = name
        while loader.check_node():
            nodes.append(loader.get_node())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark and not name.startswith("--") else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if nodes:
        return [expand(node) for node in nodes]
    return [yaml.ScalarNode("tag:yaml.org,2002:null", "", yaml.Mark(name, 0, 0, 0, None, 0))]


def apply_override(root: yaml.MappingNode, dotted: str, value: yaml.Node) -> None:
    """Set a dotted key below ``root``; missing parent mappings are created."""
    node, (*parents, last) = root, dotted.split(".")
    for name in parents:
        if name not in mapping_items(node):
            mapping = yaml.MappingNode("tag:yaml.org,2002:map", [], value.start_mark)
            node.value.append((string_node(name, value), mapping))
        node = mapping_items(node)[name][1]
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"--{dotted}: '{name}' is a plain value in the file; give it as a mapping first")
    old = mapping_items(node).get(last)
    others = [(k, v) for k, v in node.value if old is None or k is not old[0]]
    node.value = [*others, (old[0] if old else string_node(last, value), value)]


def string_node(text: str, like: yaml.Node) -> yaml.ScalarNode:
    """Return a node that holds a string, with the location of another node."""
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, like.start_mark)


def mapping_items(node: yaml.MappingNode) -> dict[Any, tuple[yaml.Node, yaml.Node]]:
    """Return {key: (key node, value node)} of a mapping.

    Raises:
        ConfigError: at a duplicate key, or a key that is not a scalar.
    """
    items: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{location_of(key)}: a key must be a word or a number")
        name = construct_value(key)
        if name in items:
            raise ConfigError(f"{location_of(key)}: {name}: is given twice")
        items[name] = (key, value)
    return items


def construct_value(node: yaml.Node) -> Any:
    """Return the Python value of a node.

    Raises:
        ConfigError: if the value is not valid for its tag; PyYAML raises various exceptions then.
    """
    try:
        return _Loader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or error
    except Exception:
        reason = f"{node.value!r} is not of type {node.tag.rpartition(':')[2]}"
    raise ConfigError(f"{location_of(node)}: cannot be read as YAML: {reason}") from None


def resolve_value(value: Any) -> Any:
    """Return a value with a leading ``~`` of a path expanded to the home folder.

    Raises:
        ValueError: if no run can use it: an integer beyond 64 bits, a character that cannot be stored in a file.
    """
    if isinstance(value, dict):
        return {resolve_value(key): resolve_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_value(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("is an integer of more than 64 bits")
    if isinstance(value, str):
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise ValueError(f"{value!r} has a character that cannot be stored in a file")
        if value == "~" or (value.startswith("~") and "/" in value):
            expanded = os.path.expanduser(value)
            if expanded.startswith("~"):
                raise ValueError(f"{value!r}: there is no such user")
            return expanded
    return value
