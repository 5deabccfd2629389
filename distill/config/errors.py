"""Errors in a config: one line each, with their location and a suggestion for a misspelt word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import yaml

MAX_MESSAGE = 1_000
"""The maximum length of a message in characters."""


class ConfigError(Exception):
    """Invalid user input; the message is a single printable line."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Return a text on one line with control characters escaped; the middle of a long text is cut out."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    half = MAX_MESSAGE // 2
    return line if len(line) <= MAX_MESSAGE else f"{line[:half]} … {line[-half:]}"


def location_of(node: yaml.Node) -> str:
    """Return the location of a node: ``file:line`` or ``--key``."""
    mark = node.start_mark
    return mark.name if mark.name.startswith("--") else f"{mark.name}:{mark.line + 1}"


FORMER_KEYS = {
    "allot": ("bit_allocation",),
    "average": ("average_bits",),
    "choose": ("combine",),
    "drop": ("dropout",),
    "keep": ("fixed_mask",),
    "Keep": ("FixedMask",),
    "noise": ("noise_std",),
    "noisy": ("noise_probability",),
    "longest": ("max_tokens",),
    "mixed": ("overrides",),
    "per": ("granularity", "subvector_size"),
    "positions": ("max_position_embeddings", "pooling"),
    "share": ("probability", "mlm_probability", "quant_noise", "param_ratio"),
    "train_rows": ("max_train_samples",),
    "until_passed": ("drop_when_matched",),
}
"""Keys of before the first release, and those that have taken their place."""


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """Return ``; did you mean '…'?`` with the known word that ends it, or the closest one; empty if none is close.

    ``num_hidden_layers`` is thus ``layers`` before it is ``share_layers``.
    """
    known = list(known)
    if renamed := [key for key in FORMER_KEYS.get(str(word), ()) if key in known]:
        return f"; did you mean {renamed[0]!r}?"
    lower = {str(k).lower(): str(k) for k in known}
    if endings := [k for k in lower if str(word).lower().endswith(f"_{k}")]:
        return f"; did you mean {lower[max(endings, key=len)]!r}?"
    matches = difflib.get_close_matches(str(word).lower(), lower, 1, 0.5)
    return f"; did you mean {lower[matches[0]]!r}?" if matches else ""


def suggest(word: object, known: Iterable[object], prefix: str = "it has") -> str:
    """Return ``did_you_mean``, or a list of all known words after ``prefix`` if none is close."""
    words = [str(k) for k in known]
    return did_you_mean(word, words) or f"; {prefix} {', '.join(words)}"
