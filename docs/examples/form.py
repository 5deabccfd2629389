"""A form of a student: here another attention, with the projections of the teacher's."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig

from distill import Attention, AttentionArgs, softmax_attention


class Cosine(nn.Module):
    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        return softmax_attention(query, key, value, attention_mask[:, None, None], arguments._replace(scale=10.0))


@dataclass(kw_only=True)
class CosineAttention(Attention):
    """A softmax over ten times the cosines of queries and keys (Henry et al. 2020, arXiv 2010.04245)."""

    encoder_only = "it does not mask later tokens"

    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        return Cosine()
