"""A user's own ``losses.py`` that hides ours is named in one line, by the command and by ``from distill import``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.config.own_packages import OWN_PACKAGES, check_own_packages

ROOT = Path(__file__).parents[4]
SCRIPT = """
try:
    from distill import run
except ImportError as error:
    print(error)
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Start Python in a folder, with ours on its path."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_ours_are_found() -> None:
    check_own_packages()


@pytest.mark.parametrize("hiding", ["losses.py", "students/__init__.py"])
def test_the_command_names_what_hides_a_package(hiding: str, tmp_path: Path) -> None:
    file = tmp_path / hiding
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    ended = python(tmp_path, "-m", "distill", "--help")
    location = tmp_path / hiding.removesuffix("/__init__.py")
    name = location.stem
    line = f"{location} hides the package '{name}' of distill; rename it, or start from another folder\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", line)


def test_a_script_is_told_the_same(tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text("")
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = python(tmp_path, "script.py")
    assert ended.stderr == ""
    assert ended.stdout.startswith(f"{tmp_path}/losses.py hides the package 'losses' of distill; rename it")


def test_a_folder_of_data_with_one_of_the_names_hides_nothing(tmp_path: Path) -> None:
    for name in OWN_PACKAGES:
        (tmp_path / name).mkdir()
    ended = python(tmp_path, "-m", "distill", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.config.own_packages.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="the package 'losses' of distill is missing; install distill again"):
        check_own_packages()
