"""The command line: its options, its help, its exit codes."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import transformers
from docstring_parser import parse_from_object

from distill.config import ConfigError, load, to_yaml
from distill.experiment import Experiment
from distill.publish import summary
from distill.run import Interrupted, carry_out
from distill.schema import describe, members_of, schema_of, subclasses


def main(words: list[str]) -> int:
    """Runs the command; 0 done, 2 the input is wrong (told in one line), 130 stopped by Ctrl-C with the checkpoint written."""
    quiet()
    parser = argparse.ArgumentParser(prog="train.py", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    parser.add_argument("--print_config", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    try:
        known, rest = parser.parse_known_args(words)
        if known.help:
            print(help_text())
            return 0
        if known.config is None:
            raise ConfigError("train.py: no --config; --help lists what can be set")
        config = load(known.config, Experiment, overrides(rest))
        config.value.name = config.value.name or Path(known.config).stem
        if known.print_config:
            print(to_yaml(config.value), end="")
            return 0
        report = carry_out(config, known.resume)
        if report is not None:
            print(summary(report))
            print(f"report: {report.folder / 'report.html'}")
        return 0
    except (ConfigError, argparse.ArgumentError) as error:
        print(error, file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt) as error:
        print(error or "stopped before the first step", file=sys.stderr)
        return 130


def quiet() -> None:
    """Keeps the libraries' chatter off the terminal; their warnings about this run stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="lightning", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*does not have many workers.*")


def overrides(words: list[str]) -> dict[str, str]:
    """``--key=value`` and ``--key value`` as {key: value}.

    Raises:
        ConfigError: if a word is neither.
    """
    found, words = {}, list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{word}: not understood; an override is --dotted.key=value")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise ConfigError(f"--{key}: has no value")
            value = words.pop(0)
        found[key] = value
    return found


def help_text() -> str:
    """Every key with its type, its default and the sentence from its docstring."""
    lines = ["python train.py --config NAME.yaml [--dotted.key=value ...] [--resume] [--print_config]", "",
             "NAME is looked up as given, then in configs/. The keys of the file:", ""]
    _describe_keys(Experiment, "", lines)
    return "\n".join(lines)


def _describe_keys(cls: type, indent: str, lines: list[str]) -> None:
    told = {p.arg_name: " ".join(p.description.split()) for p in parse_from_object(cls).params if p.description}
    for base in cls.__mro__[1:]:
        if is_dataclass(base):
            told = {p.arg_name: " ".join(p.description.split()) for p in parse_from_object(base).params if p.description} | told
    for f in (f for f in fields(cls) if f.init):
        members = members_of(schema_of(cls)[f.name])
        kinds = " or ".join(describe(m) for m in members if m is not type(None))
        default = "" if f.default is MISSING or is_dataclass(f.default) else f" [{f.default}]"
        lines.append(f"{indent}{f.name}: {kinds}{default}" + (f": {told[f.name]}" if f.name in told else ""))
        for member in members:
            _describe_classes(member, indent + "  ", lines)


def _describe_classes(hint: object, indent: str, lines: list[str]) -> None:
    from typing import get_args, get_origin

    cls = get_args(hint)[1] if get_origin(hint) is dict else hint
    if not is_dataclass(cls) or indent.count("  ") > 2:
        return
    known = subclasses(cls)
    for name, concrete in known.items():
        inner = indent
        if len(known) > 1 or concrete is not cls:
            doc = (concrete.__doc__ or "").strip().splitlines()
            lines.append(f"{indent}{name}: {doc[0] if doc else ''}")
            inner += "  "
        if cls.__module__ != "prune_schedules.schedule":
            _describe_keys(concrete, inner, lines)
