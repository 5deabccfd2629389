"""Aliases and merge keys of YAML, expanded into nodes of their own."""

from __future__ import annotations

from copy import copy

import yaml

from distill.config.errors import ConfigError, location_of

MAX_SIZE, MAX_DEPTH = 1_000_000, 50
"""Limits: bytes and values of a file, nesting levels."""
_MERGE = "tag:yaml.org,2002:merge"


def expand(node: yaml.Node) -> yaml.Node:
    """Return a copy of a document in which each alias is a node of its own and merge keys (``<<``) are expanded.

    An override then changes one alias and not all. A key beside a merge key has precedence over the merged mappings,
    and the first of several mappings over the others.

    Raises:
        ConfigError: if the document contains itself, exceeds a limit, or merges something other than mappings.
    """
    _check_size(node, {})
    return _expanded(node)


def _check_size(node: yaml.Node, sizes: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the number of values and of nesting levels of a node, with aliases expanded.

    Args:
        node: to be counted.
        sizes: {id of a node: result}, filled in.

    Raises:
        ConfigError: if the node contains itself or exceeds a limit.
    """
    if id(node) not in sizes:
        sizes[id(node)] = (MAX_SIZE, MAX_DEPTH)  # placeholder: a node that contains itself is too large
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        inner = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in pairs for part in pair]
        parts = [_check_size(part, sizes) for part in inner]
        sizes[id(node)] = 1 + sum(size for size, _ in parts), 1 + max((levels for _, levels in parts), default=0)
    size, levels = sizes[id(node)]
    if size > MAX_SIZE or levels > MAX_DEPTH:
        raise ConfigError(f"{location_of(node)}: has aliases that stand for too many values, or for themselves")
    return size, levels


def _expanded(node: yaml.Node) -> yaml.Node:
    expanded = copy(node)
    if isinstance(node, yaml.SequenceNode):
        expanded.value = [_expanded(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        written = [(_expanded(key), _expanded(value)) for key, value in node.value if key.tag != _MERGE]
        names, merged = {str(key.value) for key, _ in written}, {}
        for key, value in _merged_pairs(node):
            if str(key.value) not in names:
                merged.setdefault(str(key.value), (key, value))
        expanded.value = [*merged.values(), *written]
    return expanded


def _merged_pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    values = [value for key, value in node.value if key.tag == _MERGE]
    sources = [part for value in values for part in (value.value if isinstance(value, yaml.SequenceNode) else [value])]
    for source in sources:
        if not isinstance(source, yaml.MappingNode):
            raise ConfigError(f"{location_of(source)}: <<: only mappings can be merged")
    return [pair for source in sources for pair in _expanded(source).value]
