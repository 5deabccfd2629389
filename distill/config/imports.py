"""``imports:``: the user's own modules, whose classes a config can name.

The modules of a document are imported before the rest of it is read. Only modules named in the YAML are imported.
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
from distill.config.errors import ConfigError, location_of
from distill.config.nodes import apply_override, find_file, load_documents, mapping_items, parse_override, string_node
from distill.config.own_packages import OWN_PACKAGES
from distill.config.schema import descendants, reachable, schema_of

KEY = "imports"
_modules: dict[Path, str] = {}
"""{imported file: name of its module}."""
_fingerprints: dict[str, str] = {}
"""{module name: fingerprint of the source that was executed}."""


def load_roots(file: str | Path, schema: type, overrides: dict[str, Any]) -> Iterator[yaml.MappingNode]:
    """Yield the root node of each document of a file, overrides applied, after importing the document's modules.

    Args:
        file: looked up as given, then in ``configs/``.
        schema: the dataclass of a whole document.
        overrides: {dotted key: value}; a string is parsed as YAML.

    Raises:
        ConfigError: if the file is not YAML, a document is not a mapping, or a module cannot be imported.
    """
    roots, imported = load_documents(file), []
    for root in roots:
        if not isinstance(root, yaml.MappingNode):
            noun = "the file" if len(roots) == 1 else "the document"
            raise ConfigError(f"{location_of(root)}: {noun} is not a mapping of keys to values")
        for key, value in overrides.items():
            text = value if isinstance(value, str) else yaml.safe_dump(value)
            apply_override(root, key, parse_override(text, f"--{key}"))
        if KEY in schema_of(schema):
            imported = import_modules(root, find_file(file).parent, schema, imported)
        yield root


def import_modules(root: yaml.MappingNode, folder: Path, schema: type, inherited: list[str]) -> list[str]:
    """Import the modules that a document names and inherits; files are written into the document as absolute paths.

    Args:
        root: the document's root node.
        folder: base of relative ``.py`` paths, the folder of the config; for overrides it is the working directory.
        schema: the dataclass of the whole document, whose abstract classes a module may extend.
        inherited: the imports of earlier documents.

    Returns:
        All imports of the document.

    Raises:
        ConfigError: if a module cannot be imported or one of its classes is unusable, with both locations.
    """
    node = mapping_items(root).get(KEY, (None, None))[1]
    items = node.value if isinstance(node, yaml.SequenceNode) else None
    if node is not None and (items is None or not all(isinstance(item, yaml.ScalarNode) for item in items)):
        return inherited  # the reader reports the error
    items = items or []
    for position, item in enumerate(items):
        location = location_of(item)
        overridden = location.startswith("--")
        try:
            item.value = _import(item.value, Path.cwd() if overridden else folder, schema)
        except ValueError as error:
            raise ConfigError(f"{location}: {'' if overridden else f'{KEY}.{position}: '}{error}") from None
    names = [item.value for item in items]
    inherited_items = [string_node(name, root) for name in inherited if name not in names]
    if node is not None:
        node.value = [*inherited_items, *items]
    elif inherited_items:
        sequence = yaml.SequenceNode("tag:yaml.org,2002:seq", inherited_items, root.start_mark)
        root.value.append((string_node(KEY, root), sequence))
    return [*(item.value for item in inherited_items), *names]


def fingerprints(names: list[str]) -> dict[str, str]:
    """Return a fingerprint of the code of each module and of its imported submodules, by name.

    Only executed code counts: comments, docstrings and line breaks do not change it.

    Args:
        names: as returned by ``import_modules``.
    """
    digests = {}
    for name in names:
        if name.endswith(".py"):
            digests[Path(name).name] = digests.get(Path(name).name, "") + _fingerprints[_modules[Path(name)]]
            continue
        submodules = {key: module for key, module in list(sys.modules.items()) if f"{key}.".startswith(f"{name}.")}
        for key, module in submodules.items():
            file = Path(getattr(module, "__file__", None) or "")
            if file.suffix == ".py" and file.is_file():
                digests[key] = _fingerprint(file.read_bytes())
    return digests


def _import(name: str, folder: Path, schema: type) -> str:
    """Import one module and check its classes; return its name, for a file its absolute path."""
    bases = reachable(schema)
    before = {cls for base in bases for cls in descendants(base)}
    if is_file := name.endswith(".py"):
        path = (folder / Path(name).expanduser()).resolve()
        name, module = str(path), _import_file(path, name)
    else:
        _import_by_name(name, folder)
        module = name
    new = {
        cls
        for base in bases
        for cls in descendants(base)
        if cls not in before or cls.__module__ == module or (not is_file and cls.__module__.startswith(f"{module}."))
    }
    check_classes(new, bases)
    return name


def _import_file(path: Path, given: str) -> str:
    """Execute a file as a module with a unique name, again only if its source has changed; return the module name.

    Args:
        path: the absolute path.
        given: the path as the config gives it, for messages.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{given}: cannot be read: {error.strerror} ({path})") from None
    digest = hashlib.blake2b(str(path).encode() + b"\0" + source, digest_size=6).hexdigest()
    name = f"{re.sub(r'[^a-zA-Z0-9_]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return name
    sys.modules.pop(_modules.pop(path, ""), None)  # its classes are those of older source
    linecache.checkcache(str(path))
    module = sys.modules[name] = module_from_spec(spec_from_file_location(name, path))
    try:
        # Not by the loader of the spec, which may load a cached .pyc of older source.
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
        _fingerprints[name] = _fingerprint(source)
    except (Exception, SystemExit) as error:
        message = _failure(error)
        raise ValueError(message) from None
    finally:
        if name not in _fingerprints:
            del sys.modules[name]
    _modules[path] = name
    return name


def _import_by_name(name: str, folder: Path) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r} is neither a module name nor a .py file")
    if name.partition(".")[0] in ("distill", *OWN_PACKAGES):
        raise ValueError(f"{name!r} is a module of this library, which needs no import; a file is written with .py")
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
    """Return ``file:line: error`` of a failed import; the line is the last executed one of the module's file."""
    message = f"{type(error).__name__}: {error}"
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
    gc.collect()  # removes the classes of the failed module from __subclasses__
    return f"{frames[0].filename}:{lines[-1]}: {message}" if frames else message


def _fingerprint(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [statement for statement in body if not _is_docstring(statement)] or [ast.Pass()]
    return hashlib.blake2b(ast.unparse(tree).encode(), digest_size=8).hexdigest()


def _is_docstring(statement: ast.AST) -> bool:
    """Return whether a statement is a bare string."""
    is_constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_constant and isinstance(statement.value.value, str)
