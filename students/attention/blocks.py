"""Attention inside blocks: BlockBERT (Qiu 2020, arXiv 1911.02972), and the Sparse Transformer's fixed pattern."""

import torch
from torch import Tensor, nn

from students.attention.softmax import AttentionArgs, chunked_attention, softmax_attention, split_chunks


class BlockCore(nn.Module):
    """Each head lets the tokens of a block see one block: some heads their own, the others one further on, around.

    Args:
        blocks: into how many a text of full length is divided; shorter ones have fewer, of the same size, so that a
            row gives the same beside others that are longer.
        positions: the full length.
        heads: number of query heads.
    """

    def __init__(self, blocks: int, positions: int, heads: int):
        super().__init__()
        self.size = -(-positions // blocks)
        # As in the paper: a sixth of the heads for each way but the own block, 10:2 of 12 heads, or 8:2:2.
        way = max(1, heads // 6)
        other = torch.arange(heads, device="cpu") - (heads - (blocks - 1) * way)
        self.register_buffer("shifts", (other.clamp(min=-1) + way) // way)

    def keep_heads(self, keep: Tensor) -> None:
        """Heads were cut out; those in ``keep`` (bool, for each key) go on as before."""
        stay = keep.to(self.shifts.device).repeat_interleave(len(self.shifts) // len(keep))
        self.shifts = self.shifts[stay]

    def forward(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        length = key.shape[2]
        queries, keys, values = (split_chunks(tensor, self.size) for tensor in (query, key, value))
        there = split_chunks(present[:, None, :, None].to(torch.uint8), self.size)[..., 0].bool()
        chunks = queries.shape[2]
        end = torch.where(present, torch.arange(length, device=key.device), 0).amax(1)
        count = end // self.size + 1
        own = torch.arange(chunks, device=key.device)
        # [B, A, C]: the blocks that a row has, in a circle
        looked = (own + self.shifts[:, None]) % count[:, None, None]
        index = looked[..., None, None]
        keys, values = (x.gather(2, index.expand(-1, -1, -1, *x.shape[3:])) for x in (keys, values))
        seen = there.expand(-1, looked.shape[1], -1, -1).gather(2, looked[..., None].expand(-1, -1, -1, self.size))
        return chunked_attention(queries, keys, values, seen[..., None, :], arguments)[:, :, :length]


class FixedCore(nn.Module):
    """Each token sees its own block of ``size`` tokens and the last ``summaries`` of every block (Child 2019, arXiv
    1904.10509); a decoder sees of them what lies before.

    Blocks are counted from the first place.

    Raises:
        ValueError: if a decoder's text is padded on the left.
    """

    def __init__(self, size: int, summaries: int):
        super().__init__()
        self.size, self.summaries = size, summaries

    def forward(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        length, size, causal = key.shape[2], self.size, arguments.causal
        if causal and not torch.compiler.is_exporting() and not present[:, 0].all():
            raise ValueError("FixedAttention counts blocks from the first token: pad on the right")
        at = torch.arange(length, device=key.device)
        summary = at % size >= size - self.summaries
        if query.shape[2] != length:
            asking = at[-query.shape[2] :, None]
            seen = (at // size == asking // size) | summary
            seen = (seen & (at <= asking) if causal else seen) & present[:, None]
            return softmax_attention(query, key, value, seen[:, None], arguments)
        queries, keys, values = (split_chunks(tensor, size) for tensor in (query, key, value))
        chunks = queries.shape[2]
        there = split_chunks((present & ~summary)[:, None, :, None].to(torch.uint8), size)[:, 0, :, None, :, 0].bool()
        asking = torch.arange(chunks * size, device=key.device).view(chunks, size)
        # Summaries of all blocks stand beside a token's own block, and are left out of that, not to be counted twice.
        places = asking[:, size - self.summaries :].flatten()
        given = (places < length) & present[:, places.clamp(max=length - 1)]
        given = given[:, None, None].expand(-1, chunks, size, -1)
        there = there.expand(-1, -1, size, -1)
        if causal:
            there = there & (asking[:, None] <= asking[:, :, None])
            given = given & (places <= asking[:, :, None])
        shape = (-1, -1, chunks, -1, -1)
        keys, values = (
            torch.cat([x, x[..., size - self.summaries :, :].flatten(2, 3)[:, :, None].expand(shape)], 3)
            for x in (keys, values)
        )
        seen = torch.cat([there, given], -1)
        return chunked_attention(queries, keys, values, seen[:, None], arguments)[:, :, :length]
