"""A window of neighbours, and tokens that all see and that see all: Longformer (Beltagy 2020, arXiv 2004.05150)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.attention.softmax import AttentionArgs, chunked_attention, softmax_attention, split_chunks

SMALLEST = 32
"""A chunk of queries: as many as half the window, and at least these, or the kernel would have too little to do."""


class LocalCore(nn.Module):
    """Each token sees those at most ``window // 2`` away, and the first ``global_tokens`` of its text; these see all.

    A decoder sees of them what lies before. Global tokens have no projections of their own, as Longformer's have:
    what they ask is what the teacher's ask. Time and memory are linear in the length; in generation, with a cache,
    that of a step is linear as that of full attention is, for the cache keeps all keys.
    """

    def __init__(self, window: int, global_tokens: int):
        super().__init__()
        self.half, self.first = window // 2, global_tokens

    def forward(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        length, size, causal = key.shape[2], max(self.half, SMALLEST), arguments.causal
        # Where padding is on the left, the text begins later.
        begin = present.to(torch.int32).argmax(1)
        if query.shape[2] != length or (length <= 3 * size and not torch.compiler.is_exporting()):
            at = torch.arange(length, device=key.device)
            seen = self._near(at[-query.shape[2] :, None], at, causal) | self._given(at, begin)[:, None]
            seen = seen | (self._given(at[-query.shape[2] :], begin)[:, :, None] & (not causal))
            if causal:
                seen = seen & (at <= at[-query.shape[2] :, None])
            return softmax_attention(query, key, value, (seen & present[:, None])[:, None], arguments)
        queries = split_chunks(query, size)
        start = torch.arange(queries.shape[2], device=key.device)[:, None] * size
        asking = start + torch.arange(size, device=key.device)
        keys = start + torch.arange(-self.half, size if causal else size + self.half, device=key.device)
        inside, keys = (keys >= 0) & (keys < length), keys.clamp(0, length - 1)
        near = self._near(asking[:, :, None], keys[:, None], causal) & inside[:, None]
        # Global tokens stand beside the window, and are left out of it, not to be counted twice.
        seen = near & (present & ~self._given(torch.arange(length, device=key.device), begin))[:, keys][:, :, None]
        near_keys, near_values = (self._neighbours(tensor, size, causal) for tensor in (key, value))
        if self.first:
            given = begin[:, None] + torch.arange(self.first, device=key.device)
            there, given = given < length, given.clamp(max=length - 1)
            there = there & present.gather(1, given)
            before = given[:, None, None] <= asking[:, :, None] if causal else torch.ones_like(seen[..., :1])
            seen = torch.cat([seen, there[:, None, None] & before], -1)
            for pieces, tensor in ((near_keys, key), (near_values, value)):
                pieces.append(_taken(tensor, given)[:, None].expand(-1, queries.shape[2], -1, -1, -1))
        near_keys, near_values = (torch.cat(pieces, 3).transpose(1, 2) for pieces in (near_keys, near_values))
        found = chunked_attention(queries, near_keys, near_values, seen[:, None], arguments)[:, :, :length]
        if not self.first or causal:
            return found
        whole = softmax_attention(_taken(query, given), key, value, present[:, None, None], arguments)
        at = torch.arange(length, device=key.device)
        answer = _taken(whole, (at - begin[:, None]).clamp(0, self.first - 1))
        return torch.where(self._given(at, begin)[:, None, :, None], answer, found)

    def _neighbours(self, tensor: Tensor, size: int, causal: bool) -> list[Tensor]:
        """Of [B, A, S, D] what stands before, in and after each chunk, [B, C, A, half or size, D] each."""
        length = tensor.shape[2]
        chunks = (length + size - 1) // size
        # one more chunk on each side; slices of the whole, as picking them one by one would take several times as long
        fill = (0, 0, size, (chunks + 1) * size - length)
        wide = F.pad(tensor, fill).unflatten(2, (chunks + 2, size)).transpose(1, 2)
        pieces = [wide[:, :chunks, :, size - self.half :], wide[:, 1 : chunks + 1]]
        return pieces if causal else [*pieces, wide[:, 2:, :, : self.half]]

    def _near(self, asking: Tensor, keys: Tensor, causal: bool) -> Tensor:
        distance = asking - keys
        return (distance <= self.half) & (distance >= (0 if causal else -self.half))

    def _given(self, at: Tensor, begin: Tensor) -> Tensor:
        """Which positions are global tokens, [B, S]."""
        return (at >= begin[:, None]) & (at < begin[:, None] + self.first)


def _taken(tensor: Tensor, places: Tensor) -> Tensor:
    """Of [B, A, S, D] the places [B, K] of each row, [B, A, K, D]."""
    return tensor.gather(2, places[:, None, :, None].expand(-1, tensor.shape[1], -1, tensor.shape[3]))
