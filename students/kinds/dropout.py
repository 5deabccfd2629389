"""The dropout probabilities of a student."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def check_dropout(dropout: float | None) -> None:
    """Raise ValueError if a dropout probability is set and not in [0, 1)."""
    if dropout is not None and not 0 <= dropout < 1:
        raise ValueError(f"dropout: must be a probability, from 0 to below 1, not {dropout}")


def set_dropout(config: PretrainedConfig, dropout: float | None) -> None:
    """Set every dropout probability of a config (keys ``*dropout*`` and ``*pdrop``); ``None`` keeps its own."""
    for name, value in config.to_dict().items() if dropout is not None else ():
        if ("dropout" in name or name.endswith("pdrop")) and type(value) in (int, float):
            setattr(config, name, dropout)
