"""The zero bias of an attention with fewer heads than its model, which hands it one of the old size."""

from __future__ import annotations

from functools import partial

from torch import nn


def use_zero_bias(owner: nn.Module, argument: str, index: int) -> None:
    """Let a pruned attention make its own zero bias; ``argument`` and ``index`` are those of ``zero_bias``."""
    if not getattr(owner, "has_zero_bias", False):
        owner.has_zero_bias = True
        owner.register_forward_pre_hook(partial(_clear_argument, argument), with_kwargs=True)
        owner.register_forward_hook(partial(_clear_output, index))


def _clear_argument(argument: str, owner: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return args, kwargs | {argument: None}


def _clear_output(index: int, owner: nn.Module, args: tuple, output: tuple) -> tuple:
    return (*output[:index], None, *output[index + 1 :])
