"""Imports go one way and in no circle, folders and files are small, a model family is known in one file."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from distill.tasks.augment.augmentation import Augmentation
from distill.tasks.task import Task
from losses.loss import Loss
from prune_schedules.scores.pruner import Pruner
from quant_aware.quantizers.quantizer import Quantizer
from students.families.table import FAMILIES
from students.forms.form import Form
from students.kinds.student import Student

ROOT = Path(__file__).parents[3]
MAY_USE = {
    "train": {"distill"},
    "distill": {"distill", "losses", "prune_schedules", "quant_aware", "students"},
    "losses": {"losses", "students"},
    "prune_schedules": {"prune_schedules", "students"},
    "quant_aware": {"quant_aware", "students"},
    "students": {"students"},
}
FILES = [ROOT / "train.py", *(file for room in MAY_USE for file in sorted((ROOT / room).glob("**/*.py")))]
TESTS = sorted((ROOT / "tests").glob("**/*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("**/*.py"))
COMES_WITH = {
    "docstring_parser": "docstring-parser",
    "httpx2": "huggingface_hub",
    "markupsafe": "jinja2",
    "mlflow": "mlflow-skinny",
    "numpy": "transformers",
    "pyarrow": "datasets",
    "tokenizers": "transformers",
    "yaml": "pyyaml",
}
"""What is imported under another name than it is required by, or needed by what is required."""

EXEMPT = {"students/families/table.py"}
"""The one file that knows the families."""


def room(module: str) -> str:
    return module.partition(".")[0]


def modules(file: Path, tree: ast.AST) -> set[str]:
    """Every module that a file imports, inside functions too, by its full name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.relative_to(ROOT)}:{node.lineno}: a relative import"
            base = node.module.replace(".", "/")
            names |= {
                f"{node.module}.{alias.name}" if (ROOT / base / f"{alias.name}.py").exists() else node.module
                for alias in node.names
            }
    return names


@cache
def is_ground_floor(module: str) -> bool:
    """Whether a module says of itself that it is: then every package may use it."""
    file = ROOT / f"{module.replace('.', '/')}.py"
    return file.exists() and "ground floor" in (ast.get_docstring(ast.parse(file.read_text())) or "")


def package(file: Path) -> str:
    """The node of a file: its folder, or the file itself where the folder has packages below."""
    leaf = not any((folder / "__init__.py").exists() for folder in file.parent.iterdir() if folder.is_dir())
    return str((file.parent if leaf else file.with_suffix("")).relative_to(ROOT))


def file_of(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def circles(graph: dict[str, set[str]]) -> set[str]:
    """The nodes from which a way leads back to them."""
    while True:  # a node that nothing leaves, or nothing enters, is in no circle
        left = {node: {other for other in others if other in graph} for node, others in graph.items()}
        entered = set().union(*left.values())
        kept = {node: others for node, others in left.items() if others and node in entered}
        if len(kept) == len(graph):
            return set(kept)
        graph = kept


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of the strings that stand alone as a statement: docstrings, of attributes too."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


@pytest.fixture(scope="module", params=FILES, ids=lambda file: str(file.relative_to(ROOT)))
def parsed(request):
    return request.param, ast.parse(request.param.read_text())


def test_imports_go_one_way(parsed):
    file, tree = parsed
    own = file.stem if file.parent == ROOT else room(file.relative_to(ROOT).parts[0])
    ours = {module for module in modules(file, tree) if room(module) in MAY_USE}
    if "ground floor" in (ast.get_docstring(tree) or ""):
        assert all(map(is_ground_floor, ours)), "the ground floor imports nothing of ours above it, for all may use it"
    assert {module for module in ours if room(module) not in MAY_USE[own] and not is_ground_floor(module)} == set()


def test_packages_import_each_other_in_no_circle():
    graph: dict[str, set[str]] = {}
    for file in FILES:
        ours = {module for module in modules(file, ast.parse(file.read_text())) if room(module) in MAY_USE}
        graph.setdefault(package(file), set()).update(package(file_of(module)) for module in ours)
    assert circles({node: others - {node} for node, others in graph.items()}) == set()


def test_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == set()


@pytest.mark.parametrize(
    "folder",
    sorted({file.parent for file in FILES + TESTS + BENCHMARKS} - {ROOT}),
    ids=lambda f: str(f.relative_to(ROOT)),
)
def test_a_folder_has_at_most_twelve_entries(folder):
    entries = {path.name for path in folder.iterdir() if path.suffix == ".py" or any(path.glob("**/*.py"))}
    assert len(entries - {"__init__.py", "__main__.py", "conftest.py"}) <= 12, sorted(entries)


def test_a_file_has_at_most_250_lines():
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES + TESTS + BENCHMARKS}
    assert {file: count for file, count in lines.items() if count > 250} == {}


def test_what_is_imported_is_required(parsed):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "test" for line in lines]
    named = [*project["dependencies"], *extras]
    required = {re.match(r"[\w-]+", line)[0] for line in named}
    others = {room(module) for module in modules(*parsed)} - MAY_USE.keys() - sys.stdlib_module_names
    assert {COMES_WITH.get(name, name) for name in others} <= required


def test_nothing_of_ours_imports_the_tests(parsed):
    assert "tests" not in {room(module) for module in modules(*parsed)}


def test_a_family_is_named_where_it_is_known_and_nowhere_else(parsed):
    file, tree = parsed
    if str(file.relative_to(ROOT)) in EXEMPT:
        return
    prose = docstrings(tree)
    strings = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    }
    assert strings & FAMILIES.keys() == set()
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and room(node.module) == "transformers"
        for alias in node.names
    }
    assert {name for name in names if name.lower().startswith(tuple(FAMILIES))} == set()
    inner = {module for module in modules(file, tree) if module.startswith("transformers.models.")}
    assert {module for module in inner if not module.startswith("transformers.models.auto.")} == set()


@pytest.mark.parametrize(
    "base", [Loss, Pruner, Quantizer, Student, Form, Task, Augmentation], ids=lambda base: base.__name__
)
def test_a_new_file_is_enough_for_a_new_class(base, tmp_path, monkeypatch):
    room = import_module(base.__module__.rpartition(".")[0])
    if base is Task:
        room = import_module("distill.tasks.kinds")
    (tmp_path / "added_here.py").write_text("added = True\n")
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    name = f"{room.__name__}.added_here"
    try:
        exec(compile(Path(room.__file__).read_text(), room.__file__, "exec"), vars(room))
        assert name in sys.modules, f"{room.__name__} does not import its modules: a class there has no name in YAML"
    finally:
        sys.modules.pop(name, None)


def test_the_rooms_are_all_of_ours():
    assert {file.parent.name for file in ROOT.glob("*/__init__.py")} == MAY_USE.keys() - {"train"}
