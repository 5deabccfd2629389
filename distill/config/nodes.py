"""YAML as nodes that know their place: reading a text, overriding a key, the word that was probably meant."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any

import yaml

LARGEST, DEEPEST, LONGEST = 1_000_000, 50, 1_000
"""The bytes and values of a file, the levels of its nesting and the characters of a message."""


class ConfigError(Exception):
    """The user's input is wrong; the message is the one line to print, whatever was in the input."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


_MERGE = "tag:yaml.org,2002:merge"


class WrongBelow(ValueError):
    """What is wrong at a key below the object that is being made.

    Args:
        key: dotted, from that object on.
        why: what is wrong there.
    """

    def __init__(self, key: str, why: str):
        super().__init__(f"{key.replace('.', ': ')}: {why}")
        self.key, self.why = key, why


def one_line(text: str) -> str:
    """A text without line breaks and characters that a terminal would act on; of a long one the two ends."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    half = LONGEST // 2
    return line if len(line) <= LONGEST else f"{line[:half]} … {line[-half:]}"


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but ``3e-5`` is a number, as in YAML 1.2, and nesting ends before PyYAML takes long to look ahead."""

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        self._go_deeper()
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        self._go_deeper()
        return super().add_indent(column)

    def _go_deeper(self) -> None:
        if self.flow_level + len(self.indents) >= DEEPEST:
            raise yaml.scanner.ScannerError(None, None, f"nested deeper than {DEEPEST} levels", self.get_mark())


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def find_file(file: str | Path) -> Path:
    """Return where a YAML file lies, sought as given and then in ``configs/``.

    Raises:
        ConfigError: if there is no such file.
    """
    shipped = Path(__file__).parents[2] / "configs"
    found = next((p for p in (Path(file), shipped / file, shipped / f"{file}.yaml") if p.is_file()), None)
    if found is None and not Path(file).is_dir() and os.path.exists(file):
        raise ConfigError(f"{file}: is no file that can be read twice; write the config into a file of its own")
    if found is None:
        near = did_you_mean(
            Path(file).name, [p.name for p in [*shipped.glob("*.yaml"), *Path(file).parent.glob("*.yaml")]]
        )
        raise ConfigError(
            f"{file}: is a folder, not a file" if Path(file).is_dir() else f"{file}: there is no such file{near}"
        )
    return found


def documents(file: str | Path) -> list[yaml.Node]:
    """The root nodes of a YAML file, one for each of its documents, sought as ``find_file`` does.

    Raises:
        ConfigError: if there is no such file, or it is not YAML.
    """
    found = find_file(file)
    if (size := found.stat().st_size) > LARGEST:
        raise ConfigError(f"{file}: is no config, it has {size:,} bytes")
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
        raise ConfigError(f"{name}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    for node in nodes:
        _size(node, {})
    return [_expand(node) for node in nodes] or [
        yaml.ScalarNode("tag:yaml.org,2002:null", "", yaml.Mark(name, 0, 0, 0, None, 0))
    ]


def _size(node: yaml.Node, sizes: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """For how many values a node stands and in how many levels, those of aliases included; ``sizes`` are known ones.

    Raises:
        ConfigError: if it holds itself, or stands for too many.
    """
    if id(node) not in sizes:
        sizes[id(node)] = (LARGEST, DEEPEST)  # until it is counted, so that one that holds itself is too large
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        inner = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in pairs for part in pair]
        parts = [_size(part, sizes) for part in inner]
        sizes[id(node)] = 1 + sum(size for size, _ in parts), 1 + max((levels for _, levels in parts), default=0)
    size, levels = sizes[id(node)]
    if size > LARGEST or levels > DEEPEST:
        raise ConfigError(f"{place_of(node)}: has aliases that stand for too many values, or for themselves")
    return size, levels


def _expand(node: yaml.Node) -> yaml.Node:
    """Return a copy in which each alias is a node of its own, so that an override changes one of them, and merge keys
    (``<<``) are written out: a key beside one has precedence, then the first mapping that has it.

    Raises:
        ConfigError: if something other than mappings is merged.
    """
    if isinstance(node, yaml.ScalarNode):
        return copy(node)
    expanded = copy(node)
    if isinstance(node, yaml.SequenceNode):
        expanded.value = [_expand(item) for item in node.value]
        return expanded
    merged = [value for key, value in node.value if key.tag == _MERGE]
    sources = [part for value in merged for part in (value.value if isinstance(value, yaml.SequenceNode) else [value])]
    for source in sources:
        if not isinstance(source, yaml.MappingNode):
            raise ConfigError(f"{place_of(source)}: <<: only mappings can be merged")
    written = [(_expand(key), _expand(value)) for key, value in node.value if key.tag != _MERGE]
    names = {str(key.value) for key, _ in written}
    inherited = {}
    for key, value in (pair for source in sources for pair in _expand(source).value):
        if str(key.value) not in names:
            inherited.setdefault(str(key.value), (key, value))
    expanded.value = [*inherited.values(), *written]
    return expanded


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
    """The Python value of a node.

    Raises:
        ConfigError: if what stands there is no value of its tag, by whatever PyYAML ends in then.
    """
    try:
        return _Loader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as error:
        why = getattr(error, "problem", None) or error
    except Exception:
        why = f"{node.value!r} is no {node.tag.rpartition(':')[2]}"
    raise ConfigError(f"{place_of(node)}: cannot be read as YAML: {why}") from None


def usable(value: Any) -> Any:
    """A value, with the home folder for a ``~`` at the beginning of a path.

    Raises:
        ValueError: if no run could use it: a number of too many digits, a character that no file can hold.
    """
    if isinstance(value, dict):
        return {usable(key): usable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [usable(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("is a number of more than 64 bits")
    if isinstance(value, str):
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise ValueError(f"{value!r} has a character that no file can hold")
        if value == "~" or (value.startswith("~") and "/" in value):
            known = os.path.expanduser(value)
            if known.startswith("~"):
                raise ValueError(f"{value!r}: there is no such user")
            return known
    return value


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
