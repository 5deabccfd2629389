"""Sub-quadratic attention in place of a model's own, through transformers' attention interface."""

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
REPLACED, REPLACED_EAGER = "replaced", "replaced-eager"
"""``config._attn_implementation`` of a model with replaced attention; the second if "eager" was requested."""


def attn_implementation(config: PretrainedConfig) -> str | None:
    """Return the attention implementation of a compact config; attention that is replaced stays so on any request."""
    requested = config._attn_implementation_internal
    if config.attention is None or requested in (RECORDING, REPLACED_EAGER):
        return requested
    return REPLACED_EAGER if requested == "eager" else REPLACED


def core_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    eager: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Call the ``core_attention`` of a module, or SDPA if it has none, as ``AttentionInterface`` wants.

    Args:
        module: the attention module.
        query: [B, A, Sq, D].
        key: [B, A or fewer, Sk, D].
        value: as ``key``.
        mask: of ``core_attention_mask``.
        eager: see ``AttentionArgs``.
        kwargs: scaling, is_causal and dropout of the module.

    Raises:
        ValueError: if the attention is replaced and the mask is one of token pairs.
    """
    core_attention = getattr(module, "core_attention", None)
    if core_attention is None:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    if mask is None:
        mask = torch.ones(key.shape[0], key.shape[2], dtype=torch.bool, device=key.device)
    if mask.ndim != 2:
        raise ValueError("this attention takes no mask of token pairs: give a mask of tokens, [batch, length]")
    mask = mask.reshape(key.shape[0], key.shape[2])  # tells an exporter that its length is that of the keys
    if query.shape[1] == 0:
        return query.transpose(1, 2), None  # all heads are pruned
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if kwargs.get("scaling") is None else kwargs["scaling"]
    causal = module.is_causal if kwargs.get("is_causal") is None else kwargs["is_causal"]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    output = core_attention(query, key, value, mask, AttentionArgs(scale, causal, kwargs.get("dropout", 0.0), eager))
    return output.transpose(1, 2).contiguous(), None


def core_attention_mask(
    *,
    config: PretrainedConfig,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor | None:
    """Return the mask of ``core_attention_forward``, as ``AttentionMaskInterface`` wants.

    It is SDPA's, or if the attention is replaced the mask of the tokens, boolean [B, S]; None if all tokens count. A
    mask of pairs would cost what the replacement saves.

    Raises:
        ValueError: if a row holds several texts, or the cache has a fixed size.
    """
    if getattr(config, "attention", None) is None:
        kwargs |= {"mask_function": mask_function, "attention_mask": attention_mask, "config": config}
        return sdpa_mask(q_length=q_length, kv_length=kv_length, q_offset=q_offset, kv_offset=kv_offset, **kwargs)
    if mask_function not in (causal_mask_function, bidirectional_mask_function):
        raise ValueError("several texts in one row, windows of its own, or other masks of pairs need full attention")
    if not torch.compiler.is_exporting() and kv_length != q_offset + q_length:
        raise ValueError("a cache of fixed size has places for tokens to come; generate with a growing one")
    return attention_mask


for _name, _attention in (
    (REPLACED, core_attention_forward),
    (REPLACED_EAGER, partial(core_attention_forward, eager=True)),
):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, core_attention_mask)
