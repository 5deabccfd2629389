"""Write a first config for a fine-tuned model and its data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from distill.command.options import refuse_rest
from distill.config.errors import ConfigError
from distill.training.callbacks.display.quiet import silence_libraries

_QUESTIONS = {
    "model": "the fine-tuned model, a folder or a hub name",
    "data": "its data, a csv or another file, a folder or a hub name",
    "target": "where the student will run: cpu, gpu or browser [cpu]",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", nargs="?", default="student.yaml", help="the config to write [student.yaml]")
    for name, question in _QUESTIONS.items():
        parser.add_argument(f"--{name}", help=f"{question}; asked for if it is left out")
    parser.add_argument("--label", help="the column of the labels, if its name does not say so")


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Write the config, and return the exit code.

    Raises:
        ConfigError: if model and data do not say what the task is, or the file exists.
    """
    refuse_rest(rest)
    if Path(options.file).exists():
        raise ConfigError(f"{options.file}: exists; name another file")
    answers = {name: getattr(options, name) or _ask(name, question) for name, question in _QUESTIONS.items()}
    silence_libraries()
    from distill.command.starter.facts import look_at
    from distill.command.starter.recipe import TARGETS, starter_config

    if answers["target"] not in TARGETS:
        raise ConfigError(f"--target: {answers['target']!r} is not one of {', '.join(TARGETS)}")
    facts = look_at(answers["model"], answers["data"], options.label)
    Path(options.file).write_text(
        starter_config(answers["model"], answers["data"], facts, answers["target"]), encoding="utf-8"
    )
    print(f"{facts.task}: {facts.rows:,} rows, {', '.join(f'{key} {name}' for key, name in facts.columns.items())}")
    print(f"{options.file}: written; now: distill train {options.file}")
    return 0


def _ask(name: str, question: str) -> str:
    """Return the answer to a question; the default target if there is nobody to ask."""
    if not sys.stdin.isatty():
        if name == "target":
            return "cpu"
        raise ConfigError(f"--{name}: is missing: {question}")
    return input(f"{question}: ").strip() or ("cpu" if name == "target" else _ask(name, question))
