"""The options of verbs that read a config: its file, overrides of its keys, and help on its topics."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.config.errors import ConfigError, suggest
from distill.config.nodes import load_documents
from distill.experiment.nested_keys import find_nested_key
from distill.experiment.overview import sections

if TYPE_CHECKING:
    from distill.config.config import Config
    from distill.experiment.experiment import Experiment


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every verb that reads a config."""
    parser.add_argument(
        "--config",
        metavar="NAME.yaml",
        help="a YAML file, or the first argument; also looked up in configs/; --- in it separates several runs",
    )
    parser.add_argument(
        "--help",
        "-h",
        nargs="?",
        const="",
        metavar="TOPIC",
        help="losses (all losses), losses.HiddenMSE (its keys), prune.Magnitude.sparsity, trainer, student, ...",
    )


def read_configs(options: argparse.Namespace, rest: list[str]) -> list[Config[Experiment]]:
    """Return the configs of the runs in the named file.

    Args:
        options: parsed.
        rest: the file, if it is not an option, and the overrides, ``--dotted.key=value`` each.

    Raises:
        ConfigError: at the first mistake.
    """
    file, overrides = _split(options, rest)
    if file is None:
        raise ConfigError("--config: is missing; name a YAML file, or --help for all options")
    _check_sections(overrides)
    load_documents(file)
    from distill.experiment.runs import read_runs

    return read_runs(file, overrides)


def print_help(options: argparse.Namespace, rest: list[str]) -> int:
    """Print the help on a topic, and return the exit code.

    Raises:
        ConfigError: if there is no such topic.
    """
    topic, name = options.help, options.help.partition(".")[0]
    if name not in sections():
        raise ConfigError(f"--help {topic}: a config has no {name!r}{suggest(name, sections())}")
    from distill.config.imports import load_roots
    from distill.experiment.experiment import Experiment
    from distill.experiment.help import help_text

    file, overrides = _split(options, rest)
    if file is not None:
        list(load_roots(file, Experiment, overrides))  # imports the config's modules, whose classes have help as well
    print(help_text(topic))
    return 0


def _split(options: argparse.Namespace, rest: list[str]) -> tuple[str | None, dict[str, str]]:
    """Return the file, which may be the first argument without ``--config``, and the overrides."""
    if options.config is None and rest and not rest[0].startswith("-"):
        return rest[0], parse_overrides(rest[1:])
    return options.config, parse_overrides(rest)


def _check_sections(overrides: dict[str, str]) -> None:
    """Check that each override belongs to a section of a config, without importing the schema.

    Raises:
        ConfigError: at an unknown section.
    """
    for key in overrides:
        name = key.partition(".")[0]
        if name not in sections():
            nested = find_nested_key(name) if name == key else None
            hint = f"; did you mean --{nested}?" if nested else suggest(name, sections())
            raise ConfigError(f"--{key}: Experiment has no {name!r}{hint}")


def parse_overrides(arguments: list[str]) -> dict[str, str]:
    """Return ``--key=value`` and ``--key value`` arguments as {key: value}.

    Raises:
        ConfigError: at an argument of any other form.
    """
    overrides, rest = {}, list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            raise ConfigError(f"{argument}: not understood; an override is --dotted.key=value")
        key, equals, value = argument[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{key}: has no value")
            value = rest.pop(0)
        overrides[key] = value
    return overrides
