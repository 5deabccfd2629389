"""Blockwise attention: BlockBERT (Qiu 2020, arXiv 1911.02972), and the Sparse Transformer's fixed pattern."""

import torch
from torch import Tensor, nn

from students.attention.softmax import AttentionArgs, chunked_attention, softmax_attention, split_chunks


class BlockCore(nn.Module):
    """Attention of each block to one block, per head: most heads to their own, the others to one a shift further on.

    Shifts wrap around at the end of the text.

    Args:
        blocks: number of blocks of a text of full length; shorter texts have fewer blocks of the same size, so that a
            row's output does not depend on longer rows beside it.
        max_positions: the full length.
        heads: number of query heads.
    """

    def __init__(self, blocks: int, max_positions: int, heads: int):
        super().__init__()
        self.size = -(-max_positions // blocks)
        # As in the paper: a sixth of the heads for each shift but 0, so 10:2 of 12 heads, or 8:2:2.
        per_shift = max(1, heads // 6)
        shifted = torch.arange(heads, device="cpu") - (heads - (blocks - 1) * per_shift)
        self.register_buffer("shifts", (shifted.clamp(min=-1) + per_shift) // per_shift)

    def keep_heads(self, keep: Tensor) -> None:
        """Drop the shifts of pruned heads; ``keep`` is bool, for each key head."""
        is_kept = keep.to(self.shifts.device).repeat_interleave(len(self.shifts) // len(keep))
        self.shifts = self.shifts[is_kept]

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        length = key.shape[2]
        queries, keys, values = (split_chunks(tensor, self.size) for tensor in (query, key, value))
        is_token = split_chunks(attention_mask[:, None, :, None].to(torch.uint8), self.size)[..., 0].bool()
        chunks = queries.shape[2]
        last = torch.where(attention_mask, torch.arange(length, device=key.device), 0).amax(1)
        num_blocks = last // self.size + 1
        # [B, A, C]: the block that each block attends to, modulo the blocks of the row
        targets = (torch.arange(chunks, device=key.device) + self.shifts[:, None]) % num_blocks[:, None, None]
        index = targets[..., None, None]
        keys, values = (x.gather(2, index.expand(-1, -1, -1, *x.shape[3:])) for x in (keys, values))
        mask = is_token.expand(-1, targets.shape[1], -1, -1).gather(2, targets[..., None].expand(-1, -1, -1, self.size))
        return chunked_attention(queries, keys, values, mask[..., None, :], arguments)[:, :, :length]


class FixedCore(nn.Module):
    """Attention to the own block of ``size`` tokens and the last ``summaries`` tokens of every block (Child 2019, arXiv
    1904.10509).

    In a decoder, attention to later tokens is masked. Blocks are counted from the first position.

    Raises:
        ValueError: if a decoder's text is padded on the left.
    """

    def __init__(self, size: int, summaries: int):
        super().__init__()
        self.size, self.summaries = size, summaries

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        length, size, causal = key.shape[2], self.size, arguments.causal
        if causal and not torch.compiler.is_exporting() and not attention_mask[:, 0].all():
            raise ValueError("FixedAttention counts blocks from the first token: pad on the right")
        positions = torch.arange(length, device=key.device)
        is_summary = positions % size >= size - self.summaries
        if query.shape[2] != length:
            query_positions = positions[-query.shape[2] :, None]
            mask = (positions // size == query_positions // size) | is_summary
            mask = (mask & (positions <= query_positions) if causal else mask) & attention_mask[:, None]
            return softmax_attention(query, key, value, mask[:, None], arguments)
        queries, keys, values = (split_chunks(tensor, size) for tensor in (query, key, value))
        chunks = queries.shape[2]
        is_local = (attention_mask & ~is_summary)[:, None, :, None].to(torch.uint8)
        local_mask = split_chunks(is_local, size)[:, 0, :, None, :, 0].bool()
        query_positions = torch.arange(chunks * size, device=key.device).view(chunks, size)
        # Summaries of all blocks are appended to a block's keys, so they are masked there, not to be counted twice.
        summary_positions = query_positions[:, size - self.summaries :].flatten()
        summary_mask = (summary_positions < length) & attention_mask[:, summary_positions.clamp(max=length - 1)]
        summary_mask = summary_mask[:, None, None].expand(-1, chunks, size, -1)
        local_mask = local_mask.expand(-1, -1, size, -1)
        if causal:
            local_mask = local_mask & (query_positions[:, None] <= query_positions[:, :, None])
            summary_mask = summary_mask & (summary_positions <= query_positions[:, :, None])
        shape = (-1, -1, chunks, -1, -1)
        keys, values = (
            torch.cat([x, x[..., size - self.summaries :, :].flatten(2, 3)[:, :, None].expand(shape)], 3)
            for x in (keys, values)
        )
        mask = torch.cat([local_mask, summary_mask], -1)
        return chunked_attention(queries, keys, values, mask[:, None], arguments)[:, :, :length]
