"""YAML as nodes that know their place: reading a text, overriding a key, the word that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml


class ConfigError(Exception):
    """The user's input is wrong; the message is the one line to print."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but ``3e-5`` is a number, as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def documents(file: str | Path) -> list[yaml.Node]:
    """The root nodes of a YAML file, one for each of its documents, sought as given and then in ``configs/``.

    Raises:
        ConfigError: if there is no such file, or it is not YAML.
    """
    shipped = Path(__file__).parents[1] / "configs"
    found = next((p for p in (Path(file), shipped / file, shipped / f"{file}.yaml") if p.is_file()), None)
    if found is None:
        near = did_you_mean(
            Path(file).name, [p.name for p in [*shipped.glob("*.yaml"), *Path(file).parent.glob("*.yaml")]]
        )
        raise ConfigError(
            f"{file}: is a folder, not a file" if Path(file).is_dir() else f"{file}: there is no such file{near}"
        )
    try:
        return _composed(found.read_text("utf-8"), str(file))
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not a text in UTF-8") from None


def compose(text: str, key: str) -> yaml.Node:
    """The root node of a YAML text that was given as override ``--key``."""
    nodes = _composed(text, key)
    if len(nodes) > 1:
        raise ConfigError(f"{key}: not valid YAML: expected a single document in the stream")
    return nodes[0]


def _composed(text: str, name: str) -> list[yaml.Node]:
    """The root node of each document of a text that stands in ``name``; of an empty text a null."""
    nodes = []
    try:
        loader = _Loader(text)
        loader.name = name
        while loader.check_node():
            nodes.append(loader.get_node())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark and not name.startswith("--") else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    return nodes or [yaml.ScalarNode("tag:yaml.org,2002:null", "", yaml.Mark(name, 0, 0, 0, None, 0))]


def override(root: yaml.MappingNode, dotted: str, value: yaml.Node) -> None:
    """Sets a dotted key below ``root``, making the mappings on the way."""
    node, (*parents, last) = root, dotted.split(".")
    for name in parents:
        if name not in keys_of(node):
            node.value.append((_text(name, value), yaml.MappingNode("tag:yaml.org,2002:map", [], value.start_mark)))
        node = keys_of(node)[name][1]
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"--{dotted}: '{name}' is a plain value in the file; give it as a mapping first")
    old = keys_of(node).get(last)
    others = [(k, v) for k, v in node.value if old is None or k is not old[0]]
    node.value = [*others, (old[0] if old else _text(last, value), value)]


def _text(text: str, like: yaml.Node) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, like.start_mark)


def keys_of(node: yaml.MappingNode) -> dict[Any, tuple[yaml.Node, yaml.Node]]:
    """The keys of a mapping with their (key node, value node); a key that stands twice is an error."""
    found: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{place_of(key)}: a key must be a word or a number")
        name = value_of(key)
        if name in found:
            raise ConfigError(f"{place_of(key)}: {name}: is given twice")
        found[name] = (key, value)
    return found


def value_of(node: yaml.Node) -> Any:
    """The Python value of a node."""
    try:
        return _Loader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{place_of(node)}: cannot be read as YAML: {getattr(error, 'problem', error)}") from None


def place_of(node: yaml.Node) -> str:
    """Where a node was written: ``file:line`` or ``--key``."""
    mark = node.start_mark
    return mark.name if mark.name.startswith("--") else f"{mark.name}:{mark.line + 1}"


def did_you_mean(word: object, known: Iterable) -> str:
    """``; did you mean '…'?`` with the nearest of the known words, or nothing if none is near."""
    lower = {str(k).lower(): str(k) for k in known}
    near = difflib.get_close_matches(str(word).lower(), lower, 1, 0.5)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""


def meant(word: object, known: Iterable, there: str = "it has") -> str:
    """``did_you_mean``, or all the known words if none is near."""
    known = [str(k) for k in known]
    return did_you_mean(word, known) or f"; {there} {', '.join(known)}"
