"""Keys and values projected along the text to a fixed number of them: Linformer (Wang 2020, arXiv 2006.04768)."""

import torch
from torch import Tensor, nn

from students.attention.softmax import AttentionArgs, softmax_attention


class LinformerCore(nn.Module):
    """Keys ``E K`` and values ``F V``, E and F learned, [length, positions], for all heads of a layer alike.

    They begin as means over ``length`` equal pieces of the positions; with ``length`` as many as the positions that
    is full attention. A text that ends before a piece begins does not look at it: short texts are not drowned in
    empty keys, and padding changes nothing.

    Args:
        length: number of projected keys.
        positions: the most tokens a text can have.
        shared: whether E is F.
    """

    def __init__(self, length: int, positions: int, shared: bool):
        super().__init__()
        self.length, self.positions = length, positions
        self.keys = nn.Parameter(_means(length, positions))
        self.values = None if shared else nn.Parameter(_means(length, positions))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        size = key.shape[2]
        if not torch.compiler.is_exporting() and size > self.positions:
            raise ValueError(f"a Linformer of {self.positions} positions cannot read {size} tokens")
        there = present[:, None, :, None]
        along_keys = self.keys
        along_values = self.keys if self.values is None else self.values
        at = torch.arange(size, device=key.device)
        end = torch.where(present, at, -1).amax(1) + 1
        piece = torch.arange(self.length, device=key.device)
        seen = piece * self.positions < end[:, None] * self.length
        key = along_keys[:, :size].to(key.dtype) @ torch.where(there, key, 0.0)
        value = along_values[:, :size].to(value.dtype) @ torch.where(there, value, 0.0)
        return softmax_attention(query, key, value, seen[:, None, None], arguments)


def _means(length: int, positions: int) -> Tensor:
    """Each row the mean of one of ``length`` consecutive pieces of the positions."""
    piece = torch.arange(positions, device="cpu") * length // positions
    rows = (piece == torch.arange(length, device="cpu")[:, None]).float()
    return rows / rows.sum(1, keepdim=True)
