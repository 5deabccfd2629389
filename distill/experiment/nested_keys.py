"""Keys inside the sections of a config, read from the source: importing the classes takes seconds."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def find_nested_key(name: str) -> str | None:
    """Return the dotted key whose last word is ``name``, or has its words: ``trainer.max_epochs`` for ``epochs``."""
    words = set(name.split("_"))
    keys = _nested_keys()
    same = [key for key in keys if key.rpartition(".")[2] == name]
    similar = [key for key in keys if words <= set(key.rpartition(".")[2].split("_"))]
    return next(iter([*same, *similar]), None)


def _nested_keys() -> list[str]:
    """Return the keys ``section.key`` of all classes that a section may hold."""
    experiment = Path(__file__).with_name("experiment.py")
    files = _imported_files(experiment)
    keys = []
    for section, annotation in _annotations(_classes(experiment)["Experiment"]):
        names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
        if "trainer_arguments" in names:
            keys += [f"{section}.{key}" for key in _trainer_arguments()]
        elif ast.unparse(annotation).startswith("dict"):
            continue  # a name of the user's own stands between: losses.NAME.weight
        for name in names:
            own = [experiment] if name in _classes(experiment) else [files[name]] if name in files else []
            for file in [*own, *(found for path in own for found in _related(path))]:
                keys += [f"{section}.{key}" for key in _fields(file, only=name if file == experiment else None)]
    return list(dict.fromkeys(keys))


def _related(file: Path) -> list[Path]:
    """Return the files of the bases and subclasses of the classes in a file: what it imports, and ``kinds`` near it."""
    bases = {ast.unparse(base) for cls in _classes(file).values() for base in cls.bases}
    kinds = file.parent if file.parent.name == "kinds" else file.parent / "kinds"
    return [path for name, path in _imported_files(file).items() if name in bases] + sorted(kinds.glob("*.py"))


def _imported_files(file: Path) -> dict[str, Path]:
    """Return {name: file of the library that it is imported from}."""
    imports = [node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
    paths = {alias.name: _ROOT / f"{node.module.replace('.', '/')}.py" for node in imports for alias in node.names}
    return {name: path for name, path in paths.items() if path.is_file()}


def _classes(file: Path) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.ClassDef)}


def _annotations(cls: ast.ClassDef) -> list[tuple[str, ast.expr]]:
    """Return name and annotation of each field of a dataclass."""
    return [
        (node.target.id, node.annotation)
        for node in cls.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def _fields(file: Path, only: str | None) -> list[str]:
    """Return the fields of the dataclasses in a file, or of ``only`` one; a config's have keywords alone."""
    classes = [
        cls
        for name, cls in _classes(file).items()
        if only in (None, name)
        and any(ast.unparse(decorator) == "dataclass(kw_only=True)" for decorator in cls.decorator_list)
    ]
    fields = [field for cls in classes for field in _annotations(cls)]
    return [name for name, annotation in fields if "ClassVar" not in ast.unparse(annotation) and name[0] != "_"]


def _trainer_arguments() -> list[str]:
    """Return the arguments of Lightning's Trainer, without importing it."""
    spec = find_spec("lightning")
    file = Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py"
    methods = [node for node in _classes(file)["Trainer"].body if isinstance(node, ast.FunctionDef)]
    init = next(method for method in methods if method.name == "__init__")
    return [argument.arg for argument in init.args.kwonlyargs]
