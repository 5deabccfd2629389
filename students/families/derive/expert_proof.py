"""Prove on a tiny random model that to hide experts from a router is to cut them out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.parts import ExpertParts
from students.families.routers import HiddenExperts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXPERTS, PER_TOKEN = 5, 3
"""The experts of a block of the tiny model, and how many a token gets."""
_KEPT = ([0, 1, 2, 4], [1, 3])
"""The experts that are left where it is tried whether to hide the others is to cut them; once fewer than a token gets.
"""
_ONE = [3]


@torch.no_grad()
def run(model: PreTrainedModel, text: dict[str, Tensor]) -> Tensor:
    """Return the last hidden states."""
    return model(**text).last_hidden_state


def fewest_experts(model: PreTrainedModel, text: dict[str, Tensor], blocks: str, parts: ExpertParts) -> int:
    """Return how many experts a block needs, 1 or 2; 0 if to hide experts does not give what a model without them does.

    A router that looks for the best two of a group fails with a single expert.

    Args:
        model: a tiny one, of ``EXPERTS`` experts, of which a token gets ``PER_TOKEN``.
        text: that it is tried with.
        blocks: the path of the stack.
        parts: the experts of a block.
    """
    if not all(_is_proved(model, text, blocks, parts, kept) for kept in _KEPT):
        return 0
    try:
        return 1 if _is_proved(model, text, blocks, parts, _ONE) else 2
    except (RuntimeError, IndexError):
        return 2


def _is_proved(
    model: PreTrainedModel, text: dict[str, Tensor], blocks: str, parts: ExpertParts, kept: list[int]
) -> bool:
    """Return whether to hide all experts but the kept ones gives the outputs of a model without them.

    Buffers that have a number for each expert have a larger one for the hidden ones, which would so be chosen.
    """
    shown, model, hooks = torch.zeros(EXPERTS, dtype=torch.bool), copy.deepcopy(model), []
    shown[kept] = True
    for block in model.get_submodule(blocks):
        for path, name, axis in parts.buffers if parts.router in dict(block.named_modules()) else ():
            getattr(block.get_submodule(path), name).movedim(axis, 0)[~shown] += 2.0
    small = copy.deepcopy(model)
    for block, reduced in zip(model.get_submodule(blocks), small.get_submodule(blocks), strict=True):
        if parts.router not in dict(block.named_modules()):
            continue
        mode = HiddenExperts(shown)
        router = block.get_submodule(parts.router)
        hooks.append(router.register_forward_pre_hook(lambda *_, mode=mode: mode.__enter__() and None))
        hooks.append(router.register_forward_hook(lambda *_, mode=mode: mode.__exit__(None, None, None)))
        for path, name, axis in parts.parameters:
            module = reduced.get_submodule(path)
            setattr(module, name, nn.Parameter(getattr(module, name).detach().index_select(axis, torch.tensor(kept))))
        for path, name, axis in parts.buffers:
            module = reduced.get_submodule(path)
            setattr(module, name, getattr(module, name).index_select(axis, torch.tensor(kept)))
        for path, name in parts.counters:
            setattr(reduced.get_submodule(path), name, len(kept))
        for path, name in parts.limits:
            setattr(reduced.get_submodule(path), name, min(len(kept), PER_TOKEN))
    before, hidden = None, run(model, text)
    for hook in hooks:
        hook.remove()
    before = run(model, text)
    return torch.allclose(hidden, run(small, text), atol=1e-5) and not torch.allclose(hidden, before, atol=1e-5)
