"""Checks of options that several verbs have."""

from __future__ import annotations

import argparse

from distill.config.errors import ConfigError


def refuse_rest(rest: list[str]) -> None:
    """Raise ConfigError if arguments are left that the verb does not have."""
    if rest:
        raise ConfigError(f"{rest[0]}: is not an option of this verb; --help lists them")


def number_from_1(text: str) -> int:
    """Return a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: if it is not.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
