"""Attention that costs less than the square of the length, in the place of a model's own, through transformers'
attention interface.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function, sdpa_mask

from students.attention.softmax import AttentionArgs

if TYPE_CHECKING:
    from transformers import PretrainedConfig

RECORDING = "recording"
REPLACED, REPLACED_EAGER = "replaced", "replaced-plain"
"""What ``config._attn_implementation`` is of a model with another attention; the second where "eager" was asked."""


def attn_implementation(config: PretrainedConfig) -> str | None:
    """The attention of a compact config: whatever was asked for, one that has been replaced never comes back."""
    asked = config._attn_implementation_internal
    if config.attention is None or asked in (RECORDING, REPLACED_EAGER):
        return asked
    return REPLACED_EAGER if asked == "eager" else REPLACED


def core_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    plain: bool = False,
    **rest: Any,
) -> tuple[Tensor, None]:
    """What stands in the place of a module's attention, or SDPA where nothing does, as ``AttentionInterface`` wants.

    The mask is that of ``core_attention_mask``.

    Raises:
        ValueError: if it is a mask of pairs, and the attention has been replaced.
    """
    replaced = getattr(module, "core_attention", None)
    if replaced is None:
        return sdpa_attention_forward(module, query, key, value, mask, **rest)
    if mask is None:
        mask = torch.ones(key.shape[0], key.shape[2], dtype=torch.bool, device=key.device)
    if mask.ndim != 2:
        raise ValueError("this attention looks at no pairs of tokens: give a mask of tokens, [batch, length]")
    mask = mask.reshape(key.shape[0], key.shape[2])  # for an exporter, which has not seen that its length is the keys'
    if query.shape[1] == 0:
        return query.transpose(1, 2), None  # all heads have been cut out
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if rest.get("scaling") is None else rest["scaling"]
    causal = module.is_causal if rest.get("is_causal") is None else rest["is_causal"]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    found = replaced(query, key, value, mask, AttentionArgs(scale, causal, rest.get("dropout", 0.0), plain))
    return found.transpose(1, 2).contiguous(), None


def core_attention_mask(
    *,
    config: PretrainedConfig,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | None = None,
    **rest: Any,
) -> Tensor | None:
    """Return the mask of ``core_attention_forward``, as ``AttentionMaskInterface`` wants.

    It is SDPA's, or where the attention is replaced the mask of the tokens, boolean [B, S]; None where all tokens
    count. A mask of pairs would cost what the replacement saves.

    Raises:
        ValueError: if the tokens of a row are not one text, or the cache holds places for tokens to come.
    """
    if getattr(config, "attention", None) is None:
        rest |= {"mask_function": mask_function, "attention_mask": attention_mask, "config": config}
        return sdpa_mask(q_length=q_length, kv_length=kv_length, q_offset=q_offset, kv_offset=kv_offset, **rest)
    if mask_function not in (causal_mask_function, bidirectional_mask_function):
        raise ValueError("several texts in one row, windows of its own, or other masks of pairs need full attention")
    if not torch.compiler.is_exporting() and kv_length != q_offset + q_length:
        raise ValueError("a cache of fixed size has places for tokens to come; generate with a growing one")
    return attention_mask


for _name, _attention in (
    (REPLACED, core_attention_forward),
    (REPLACED_EAGER, partial(core_attention_forward, plain=True)),
):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, core_attention_mask)
