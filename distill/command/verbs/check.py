"""Read all data and models of a config and print what a run would do; train and write nothing."""

from __future__ import annotations

import argparse

from distill.command.verbs import train

add_arguments = train.add_arguments


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Check the runs, and return the exit code.

    Raises:
        ConfigError: at the first thing that does not fit.
    """
    options.check = True
    return train.execute(options, rest)
