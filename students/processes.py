"""Collectives between the processes of a run: the only place that calls them on tensors of ours.

torch's collectives write into the tensor they are given, which others may hold; these return a new one.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Return the number of processes; 1 before they are connected, too."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Return the sum over all processes, a new tensor without gradient. All processes call it in the same order."""
    total = tensor.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(total)
    return total


def all_reduce_max(number: int, device: torch.device) -> int:
    """Return the largest number of all processes.

    Args:
        number: of this process.
        device: of the collective, which is that of the model.
    """
    if world_size() == 1:
        return number
    largest = torch.tensor(number, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def gather_first_text(text: str | None) -> str | None:
    """Return the text of the first process that has one; None if none has. All processes call it."""
    texts: list[str | None] = [text] * world_size()
    if world_size() > 1:
        distributed.all_gather_object(texts, text)
    return next(filter(None, texts), None)


def is_sharded(tensor: Tensor) -> bool:
    """Return whether each process holds a shard of the tensor."""
    from torch.distributed.tensor import DTensor  # not above: it takes more than a second, with sympy

    return isinstance(tensor, DTensor)


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the tensor; a sharded one is gathered on every process, and all must call at once."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor
