"""The command in a report can be given again."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.evaluation.machine import command_line


@pytest.mark.parametrize(
    ("program", "module", "words", "command"),
    [
        ("train.py", None, ["--config", "x.yaml"], "python train.py --config x.yaml"),
        ("{here}/sub/own.py", None, [], "python sub/own.py"),
        ("/elsewhere/train.py", None, [], "python /elsewhere/train.py"),
        ("/usr/bin/distill", None, ["train", "--config", "x.yaml"], "distill train --config x.yaml"),
        ("/site/distill/__main__.py", "distill.__main__", ["train"], "python -m distill train"),
        ("/repository/quickstart.py", "benchmarks.quickstart", ["--steps", "9"],
         "python -m benchmarks.quickstart --steps 9"),
        ("train.py", None, ["--a={b: {kind: C}}"], "python train.py '--a={b: {kind: C}}'"),
        ("train.py", None, ["--resume", "--config", "x.yaml"], "python train.py --config x.yaml"),
        ("train.py", None, ["--config", "x.yaml", "--resume", "auto"], "python train.py --config x.yaml"),
        ("train.py", None, ["--resume=auto", "--name", "auto"], "python train.py --name auto"),
        ("-c", None, ["x"], ""),
        ("", None, [], ""),
        ("/site/ipykernel_launcher.py", "ipykernel_launcher", ["-f", "kernel.json"], ""),
    ],
)  # fmt: skip
def test_the_command_names_the_program_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, module: str | None, words: list[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = SimpleNamespace(name=module) if module else None
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", [program.format(here=tmp_path), *words])
    assert command_line() == command
