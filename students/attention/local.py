"""Sliding-window attention with global tokens: Longformer (Beltagy 2020, arXiv 2004.05150)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.attention.softmax import AttentionArgs, chunked_attention, softmax_attention, split_chunks

MIN_CHUNK = 32
"""The smallest chunk of queries: a chunk is half the window, but smaller ones leave the kernel too little work."""


class LocalCore(nn.Module):
    """Attention to tokens at most ``window // 2`` away and to the first ``global_tokens``, which attend to all.

    In a decoder, attention to later tokens is masked. Global tokens share the projections of the others, unlike
    Longformer's. Time and memory are linear in the length. In generation with a cache, a step is linear as with full
    attention, since the cache keeps all keys.
    """

    def __init__(self, window: int, global_tokens: int):
        super().__init__()
        self.half, self.global_tokens = window // 2, global_tokens

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        length, size, causal = key.shape[2], max(self.half, MIN_CHUNK), arguments.causal
        # With padding on the left, the text begins later.
        begin = attention_mask.to(torch.int32).argmax(1)
        if query.shape[2] != length or (length <= 3 * size and not torch.compiler.is_exporting()):
            positions = torch.arange(length, device=key.device)
            query_positions = positions[-query.shape[2] :]
            mask = self._is_near(query_positions[:, None], positions, causal)
            mask = mask | self._is_global(positions, begin)[:, None]
            mask = mask | (self._is_global(query_positions, begin)[:, :, None] & (not causal))
            if causal:
                mask = mask & (positions <= query_positions[:, None])
            return softmax_attention(query, key, value, (mask & attention_mask[:, None])[:, None], arguments)
        queries = split_chunks(query, size)
        start = torch.arange(queries.shape[2], device=key.device)[:, None] * size
        query_positions = start + torch.arange(size, device=key.device)
        key_positions = start + torch.arange(-self.half, size if causal else size + self.half, device=key.device)
        exists, key_positions = (key_positions >= 0) & (key_positions < length), key_positions.clamp(0, length - 1)
        near = self._is_near(query_positions[:, :, None], key_positions[:, None], causal) & exists[:, None]
        # Global tokens are appended to the window's keys, so they are masked in the window, not to be counted twice.
        is_local = attention_mask & ~self._is_global(torch.arange(length, device=key.device), begin)
        mask = near & is_local[:, key_positions][:, :, None]
        near_keys, near_values = (self._neighbours(tensor, size, causal) for tensor in (key, value))
        if self.global_tokens:
            global_positions = begin[:, None] + torch.arange(self.global_tokens, device=key.device)
            exists, global_positions = global_positions < length, global_positions.clamp(max=length - 1)
            exists = exists & attention_mask.gather(1, global_positions)
            is_before = torch.ones_like(mask[..., :1])
            if causal:
                is_before = global_positions[:, None, None] <= query_positions[:, :, None]
            mask = torch.cat([mask, exists[:, None, None] & is_before], -1)
            for pieces, tensor in ((near_keys, key), (near_values, value)):
                pieces.append(_gather(tensor, global_positions)[:, None].expand(-1, queries.shape[2], -1, -1, -1))
        near_keys, near_values = (torch.cat(pieces, 3).transpose(1, 2) for pieces in (near_keys, near_values))
        output = chunked_attention(queries, near_keys, near_values, mask[:, None], arguments)[:, :, :length]
        if not self.global_tokens or causal:
            return output
        global_query = _gather(query, global_positions)
        global_output = softmax_attention(global_query, key, value, attention_mask[:, None, None], arguments)
        positions = torch.arange(length, device=key.device)
        spread = _gather(global_output, (positions - begin[:, None]).clamp(0, self.global_tokens - 1))
        return torch.where(self._is_global(positions, begin)[:, None, :, None], spread, output)

    def _neighbours(self, tensor: Tensor, size: int, causal: bool) -> list[Tensor]:
        """Return the tokens before, in and after each chunk of [B, A, S, D], [B, C, A, half or size, D] each."""
        length = tensor.shape[2]
        chunks = (length + size - 1) // size
        # one more chunk on each side; slices of one tensor, since a gather would take several times as long
        fill = (0, 0, size, (chunks + 1) * size - length)
        padded = F.pad(tensor, fill).unflatten(2, (chunks + 2, size)).transpose(1, 2)
        pieces = [padded[:, :chunks, :, size - self.half :], padded[:, 1 : chunks + 1]]
        return pieces if causal else [*pieces, padded[:, 2:, :, : self.half]]

    def _is_near(self, query_positions: Tensor, key_positions: Tensor, causal: bool) -> Tensor:
        distance = query_positions - key_positions
        return (distance <= self.half) & (distance >= (0 if causal else -self.half))

    def _is_global(self, positions: Tensor, begin: Tensor) -> Tensor:
        """Return which positions are global tokens, [B, S]."""
        return (positions >= begin[:, None]) & (positions < begin[:, None] + self.global_tokens)


def _gather(tensor: Tensor, positions: Tensor) -> Tensor:
    """Return the positions [B, K] of each row of [B, A, S, D], [B, A, K, D]."""
    return tensor.gather(2, positions[:, None, :, None].expand(-1, tensor.shape[1], -1, tensor.shape[3]))
