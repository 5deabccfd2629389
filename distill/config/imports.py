"""``imports:``: modules of the user's own, whose classes a config may then name.

A module is imported before the rest of its document is read. Nothing is imported that the YAML does not name.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import importlib
import linecache
import re
import sys
import traceback
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import yaml

from distill.config.class_checks import check_classes
from distill.config.nodes import (
    ConfigError,
    compose,
    documents,
    find_file,
    keys_of,
    override,
    place_of,
)
from distill.config.schema import descendants, reachable, schema_of

KEY = "imports"
_modules: dict[Path, str] = {}
"""Files that were imported, each with the name of its module."""
_fingerprints: dict[str, str] = {}
"""The fingerprints of these modules, taken from the very text that was run."""


def roots_of(file: str | Path, schema: type, overrides: dict[str, Any]) -> Iterator[yaml.MappingNode]:
    """Give the root of each document of a file, with the overrides, once its modules have been imported.

    Args:
        file: sought as given, then in ``configs/``.
        schema: the dataclass of the whole.
        overrides: {dotted key: value}; a text is read as YAML.

    Raises:
        ConfigError: if the file is no YAML, a document no mapping, or a module cannot be imported.
    """
    roots, imported = documents(file), []
    for root in roots:
        if not isinstance(root, yaml.MappingNode):
            what = "the file" if len(roots) == 1 else "the document"
            raise ConfigError(f"{place_of(root)}: {what} is not a mapping of keys to values")
        for key, value in overrides.items():
            text = value if isinstance(value, str) else yaml.safe_dump(value)
            override(root, key, compose(text, f"--{key}"))
        if KEY in schema_of(schema):
            imported = import_modules(root, find_file(file).parent, schema, imported)
        yield root


def import_modules(root: yaml.MappingNode, folder: Path, schema: type, inherited: list[str]) -> list[str]:
    """Import what a document names, and what those before it named; write files into it with their whole path.

    Args:
        root: of the document.
        folder: of its file, to which the paths of ``.py`` files are relative; those of an override to the working
            directory.
        schema: the dataclass of the whole, whose abstract classes a module may add to.
        inherited: what the documents before it import.

    Returns:
        All that the document imports.

    Raises:
        ConfigError: if a module cannot be imported, or a class of it could not be used, with the place of both.
    """
    node = keys_of(root).get(KEY, (None, None))[1]
    items = node.value if isinstance(node, yaml.SequenceNode) else None
    if node is not None and (items is None or not all(isinstance(item, yaml.ScalarNode) for item in items)):
        return inherited  # the reader says what is wrong
    items = items or []
    for position, item in enumerate(items):
        place = place_of(item)
        overridden = place.startswith("--")
        try:
            item.value = _import(item.value, Path.cwd() if overridden else folder, schema)
        except ValueError as error:
            raise ConfigError(f"{place}: {'' if overridden else f'{KEY}.{position}: '}{error}") from None
    own = [item.value for item in items]
    more = [_text(name, root) for name in inherited if name not in own]
    if node is not None:
        node.value = [*more, *items]
    elif more:
        root.value.append((_text(KEY, root), yaml.SequenceNode("tag:yaml.org,2002:seq", more, root.start_mark)))
    return [*(item.value for item in more), *own]


def _text(text: str, like: yaml.Node) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, like.start_mark)


def fingerprints(names: list[str]) -> dict[str, str]:
    """Return a fingerprint of the code of each module, and of the modules inside it that were imported.

    It is one of what is run: comments, docstrings and line breaks have no part in it.

    Args:
        names: as ``import_modules`` gives them.
    """
    found = {}
    for name in names:
        if name.endswith(".py"):
            found[Path(name).name] = found.get(Path(name).name, "") + _fingerprints[_modules[Path(name)]]
            continue
        inside = {key: module for key, module in list(sys.modules.items()) if f"{key}.".startswith(f"{name}.")}
        for key, module in inside.items():
            file = Path(getattr(module, "__file__", None) or "")
            if file.suffix == ".py" and file.is_file():
                found[key] = _fingerprint(file.read_bytes())
    return found


def _import(name: str, folder: Path, schema: type) -> str:
    """Import one module and check its classes; return its name, of a file its whole path."""
    bases = reachable(schema)
    before = {cls for base in bases for cls in descendants(base)}
    if is_file := name.endswith(".py"):
        path = (folder / Path(name).expanduser()).resolve()
        module = _import_file(path, name)
        name, modules = str(path), module
    else:
        _import_by_name(name, folder)
        modules = name
    new = {
        cls
        for base in bases
        for cls in descendants(base)
        if cls not in before or cls.__module__ == modules or (not is_file and cls.__module__.startswith(f"{modules}."))
    }
    check_classes(new, bases)
    return name


def _import_file(path: Path, written: str) -> str:
    """Run a file as a module of a name that no other has; run it anew only where its text has changed."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{written}: cannot be read: {error.strerror} ({path})") from None
    digest = hashlib.blake2b(str(path).encode() + b"\0" + source, digest_size=6).hexdigest()
    name = f"{re.sub(r'[^a-zA-Z0-9_]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return name
    sys.modules.pop(_modules.pop(path, ""), None)  # its classes are those of an older text
    linecache.checkcache(str(path))
    module = sys.modules[name] = module_from_spec(spec_from_file_location(name, path))
    try:
        # Not by the loader of the spec, which may take a compiled file of an older text.
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
        _fingerprints[name] = _fingerprint(source)
    except (Exception, SystemExit) as error:
        why = _failure(error)
        raise ValueError(why) from None
    finally:
        if name not in _fingerprints:
            del sys.modules[name]
    _modules[path] = name
    return name


def _import_by_name(name: str, folder: Path) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r} is neither the name of a module nor a file that ends with .py")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(_failure(error)) from None
        file = f"{name}.py"
        hint = f"; did you mean the file {file!r}?" if (folder / file).is_file() else "; a file is written with .py"
        raise ValueError(f"there is no module {name!r} on Python's path{hint}") from None
    except (Exception, SystemExit) as error:
        raise ValueError(_failure(error)) from None


def _failure(error: BaseException) -> str:
    """Return where in the module it failed, and with what: the last line of its file that was run."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    skipped = (__file__, importlib.__file__)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in skipped and not frame.filename.startswith("<frozen")
    ]
    lines = [frame.lineno for frame in frames if frame.filename == frames[0].filename]
    error.__traceback__ = None
    gc.collect()  # classes of a module that failed are no subclasses any more
    return f"{frames[0].filename}:{lines[-1]}: {what}" if frames else what


def _fingerprint(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]
    return hashlib.blake2b(ast.unparse(tree).encode(), digest_size=8).hexdigest()


def _is_text(line: ast.AST) -> bool:
    """Whether a statement is a text alone: a docstring."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
