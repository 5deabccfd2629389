"""What type checkers see of ``distill`` is what it exports, and ``make check`` checks the modules of it."""

import ast
import tomllib
from pathlib import Path

import distill

ROOT = Path(__file__).parents[3]


def typed_names() -> set[tuple[str, str]]:
    """Return the pairs (module, name) that the file imports for type checkers only."""
    tree = ast.parse((ROOT / "distill" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {(node.module, alias.asname) for node in block.body for alias in node.names}


def test_type_checkers_see_the_public_names():
    assert typed_names() == {(module, name) for module, names in distill._MODULES.items() for name in names}


def test_modules_with_public_names_are_checked():
    checked = [ROOT / path for path in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]]
    modules = {ROOT / f"{module.replace('.', '/')}.py" for module, _ in typed_names()}
    assert [str(file) for file in modules if not {file, *file.parents} & set(checked)] == []
