"""The command line: verbs, help and exit codes."""

from __future__ import annotations

import argparse
import os
import pkgutil
import signal
import sys
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from distill.command import verbs
from distill.command.failures import report_failure
from distill.config.errors import ConfigError, did_you_mean, one_line
from distill.config.own_packages import check_own_packages
from distill.experiment.overview import sections_overview

# Everything else is imported where it is first needed: torch takes two seconds, Lightning and transformers five more,
# and --help, a missing file or a misspelt key must not wait for them.

NAMES = [module.name for module in pkgutil.iter_modules(verbs.__path__)]
"""The verbs."""


def start(arguments: list[str] | None = None) -> None:
    """Run the command as a process of its own, and exit with its code.

    Args:
        arguments: a verb and its options; by default those of this process.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit_at_once)
    try:
        check_own_packages()
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1:] if arguments is None else arguments))


def _exit_at_once(number: int, frame: object) -> None:
    """End the process on a signal, as long as there is nothing to save."""
    print("stopped at once; if steps were made, go on with --resume", file=sys.stderr, flush=True)
    os._exit(128 + number)


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: a verb and its options.

    Returns:
        The exit code:
        0: success.
        1: the file system failed after the run had started, a value became NaN or infinite, or a bug. A bug prints its
        traceback, the others one line.
        2: invalid input or an unwritable folder, reported in one line.
        130, 143, 138: stopped by Ctrl-C, SIGTERM, SIGUSR1.
    """
    try:
        if not argv or argv[0] in ("--help", "-h", "help"):
            print(overview())
            return 0
        module = find_verb(argv[0])
        parser = parser_of(module)
        if not has_topics(parser) and {"--help", "-h"}.intersection(argv):
            print(parser.format_help(), end="")
            return 0
        options, rest = parser.parse_known_args(argv[1:])
        if options.help == "":
            print(parser.format_help(), sections_overview(), sep="\n")
            return 0
        return module.execute(options, rest)
    except (ConfigError, argparse.ArgumentError) as error:
        print(one_line(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has ended, as ``head`` does
        return 0
    except BaseException as error:
        return report_failure(error, None)


def find_verb(name: str) -> ModuleType:
    """Return the module of a verb.

    Raises:
        ConfigError: if there is no such verb.
    """
    if name not in NAMES:
        hint = did_you_mean(name, NAMES) or "; distill --help lists them"
        raise ConfigError(f"distill: {name!r} is not a verb{hint}")
    return import_module(f"{verbs.__name__}.{name}")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; --help lists the options")


def parser_of(module: ModuleType) -> argparse.ArgumentParser:
    """Return the parser of a verb's options."""
    parser = _Parser(
        prog=f"distill {module.__name__.rpartition('.')[2]}",
        description=module.__doc__,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
        conflict_handler="resolve",
    )
    parser.add_argument("--help", "-h", action="store_true", help="show this help")
    module.add_arguments(parser)  # a verb that reads a config has a --help of its own, with topics
    return parser


def has_topics(parser: argparse.ArgumentParser) -> bool:
    """Return whether a verb answers ``--help`` itself, as those that read a config do: it has topics there."""
    return parser.get_default("help") is None


def overview() -> str:
    """Return the list of verbs, a line each."""
    width = max(map(len, NAMES))
    lines = [f"  {name:<{width}}  {find_verb(name).__doc__.partition('.')[0]}" for name in NAMES]
    return "\n".join(["distill VERB [options]", "", *lines, "", "The options of a verb: distill VERB --help"])
