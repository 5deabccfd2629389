"""Keys and values projected along the text to a fixed number: Linformer (Wang 2020, arXiv 2006.04768)."""

import torch
from torch import Tensor, nn

from students.attention.softmax import AttentionArgs, softmax_attention


class LinformerCore(nn.Module):
    """Attention to keys ``E K`` and values ``F V``; E and F, [length, positions], are learned, one for all heads.

    They are initialized as means over ``length`` equal pieces of the positions; with one position a piece that is
    full attention. A text that ends before a piece begins does not attend to it, so that short texts are not flooded
    with empty keys and padding changes nothing.

    Args:
        length: number of projected keys.
        max_positions: maximum number of tokens of a text.
        shared: whether E is F.
    """

    def __init__(self, length: int, max_positions: int, shared: bool):
        super().__init__()
        self.length, self.max_positions = length, max_positions
        self.keys = nn.Parameter(_piece_means(length, max_positions))
        self.values = None if shared else nn.Parameter(_piece_means(length, max_positions))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        length = key.shape[2]
        if not torch.compiler.is_exporting() and length > self.max_positions:
            raise ValueError(f"a Linformer of {self.max_positions} positions cannot read {length} tokens")
        is_token = attention_mask[:, None, :, None]
        key_projection = self.keys
        value_projection = self.keys if self.values is None else self.values
        positions = torch.arange(length, device=key.device)
        end = torch.where(attention_mask, positions, -1).amax(1) + 1
        pieces = torch.arange(self.length, device=key.device)
        mask = pieces * self.max_positions < end[:, None] * self.length
        key = key_projection[:, :length].to(key.dtype) @ torch.where(is_token, key, 0.0)
        value = value_projection[:, :length].to(value.dtype) @ torch.where(is_token, value, 0.0)
        return softmax_attention(query, key, value, mask[:, None, None], arguments)


def _piece_means(length: int, positions: int) -> Tensor:
    """Return a matrix [length, positions] whose rows are the means of consecutive pieces of the positions."""
    piece = torch.arange(positions, device="cpu") * length // positions
    rows = (piece == torch.arange(length, device="cpu")[:, None]).float()
    return rows / rows.sum(1, keepdim=True)
