"""What the processes of a run tell one another: the only place that calls a collective on something of ours.

torch's collectives write into the tensor that they are given, which others may hold; these never do.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """How many processes there are; 1 before they have found one another, too."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Its sum over all processes, a tensor of its own; without gradient. All processes call it in the same order."""
    total = tensor.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(total)
    return total


def all_reduce_max(number: int, device: torch.device) -> int:
    """The largest number that a process has.

    Args:
        number: of this process.
        device: on which the processes talk: that of the model.
    """
    if world_size() == 1:
        return number
    found = torch.tensor(number, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def gather_first_text(text: str | None) -> str | None:
    """The text of the first process that has one; None if none has. All processes call it."""
    texts: list[str | None] = [text] * world_size()
    if world_size() > 1:
        distributed.all_gather_object(texts, text)
    return next(filter(None, texts), None)


def is_sharded(tensor: Tensor) -> bool:
    """Return whether each process has a part of the tensor."""
    from torch.distributed.tensor import DTensor  # not above: it takes more than a second, with sympy

    return isinstance(tensor, DTensor)


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor; of one in shards all of it, gathered on every process: all must ask at once."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor
