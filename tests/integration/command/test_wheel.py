"""The wheel, built, installed and run from an empty folder: the command, the shipped configs, an error in one line."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILT_FROM = ("configs", "distill", "losses", "prune_schedules", "quant_aware", "students")
FILES = ("LICENSE", "README.md", "pyproject.toml", "setup.py")

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run a command without this repository on Python's path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources: a `build` folder of earlier would go into it."""
    sources = tmp_path_factory.mktemp("sources")
    for name in BUILT_FROM:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, sources / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", sources / "wheels"]
    built = run(sys.executable, "-m", "pip", "wheel", *options, ".", cwd=sources)
    assert built.returncode == 0, built.stderr
    return next((sources / "wheels").glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, and the libraries of the present one after it."""
    folder = tmp_path_factory.mktemp("environment")
    made = run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    assert made.returncode == 0, made.stderr
    site = next(folder.glob("lib/python*/site-packages"))
    # pip of the present environment: the fresh one has none, which saves ten seconds.
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    installed = run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    assert installed.returncode == 0, installed.stderr
    # A path alone: the .pth files there are not read, so an editable install of ours is not found.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def test_its_top_level_has_our_five_names(environment: Path) -> None:
    site = next(environment.glob("lib/python*/site-packages"))
    names = {path.name for path in site.iterdir() if path.suffix not in (".dist-info", ".pth")}
    assert names - {"__pycache__"} == {"distill", "losses", "prune_schedules", "quant_aware", "students"}


def test_every_package_is_typed(environment: Path) -> None:
    site = next(environment.glob("lib/python*/site-packages"))
    assert all((package.parent / "py.typed").exists() for package in site.glob("*/__init__.py"))


def test_the_command_runs_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "distill"
    helped = run(command, "--help", cwd=tmp_path)
    assert helped.returncode == 0 and "train" in helped.stdout, helped.stderr
    printed = run(command, "train", "--config", "tinybert.yaml", "--print_config", cwd=tmp_path)
    assert printed.returncode == 0 and "huawei-noah/TinyBERT_General_4L_312D" in printed.stdout, printed.stderr
    refused = run(command, "train", "--config", "tinybird.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == "tinybird.yaml: there is no such file; did you mean 'tinybert.yaml'?\n"
    assert list(tmp_path.iterdir()) == []


def test_it_is_imported_from_where_it_is_installed(environment: Path, tmp_path: Path) -> None:
    code = "import students; from distill import Loss, run; print(students.__file__, Loss.__module__, run.__module__)"
    imported = run(environment / "bin" / "python", "-c", code, cwd=tmp_path)
    assert imported.returncode == 0, imported.stderr
    file, *modules = imported.stdout.split()
    assert Path(file).is_relative_to(environment) and modules == ["losses.loss", "distill.runner"]
