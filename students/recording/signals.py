"""Signals to record in a forward pass, and the trace that holds them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.families.families import attention_layers, depth, family, require

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Site = tuple[str, int]
"""(stack, layer): the stack is ``encoder``, ``decoder`` or, for attention, ``cross`` (decoder to encoder).

Hidden layer 0 is the input of the first block and layer i the output of block i, so that the last one is the
state *before* any final norm. Layers of attention and of routing are 1 to N.
"""


@dataclass(frozen=True)
class Signals:
    """The signals to record in a forward pass; ``a | b`` is the union, and no signals are false."""

    logits: bool = False
    hidden: frozenset[Site] = frozenset()
    attention: frozenset[Site] = frozenset()
    routing: frozenset[Site] = frozenset()

    def __or__(self, other: Signals) -> Signals:
        hidden, attention = self.hidden | other.hidden, self.attention | other.attention
        return Signals(self.logits or other.logits, hidden, attention, self.routing | other.routing)

    def __bool__(self) -> bool:
        return self.logits or bool(self.hidden | self.attention | self.routing)


@dataclass
class Attention:
    """The inputs of one attention: query [B, A, Sq, D]; key, value [B, A or fewer, Sk, D] (grouped-query attention).

    ``mask`` is boolean, True = visible, [B or 1, 1, Sq or 1, Sk]; ``causal`` masks later keys, too.
    ``bias`` is T5's position bias, [1, A, Sq, Sk]; rotary embeddings are in query and key already.
    ``own_scores`` [B, A, Sq, Sk] are those of a model whose attention is watched, with all that it adds to Q K^T.
    ``sink`` [B, A, Sq, 1] is a learned score beside them that belongs to no key (GPT-OSS): it takes a share of the
    softmax, so that the probabilities of the keys add up to less than 1.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    bias: Tensor | None
    causal: bool
    own_scores: Tensor | None = None
    sink: Tensor | None = None

    def repeated_key(self) -> Tensor:
        """Return the key with as many heads as the query, [B, A, Sk, D]."""
        return _repeat_heads(self.key, self.query)

    def repeated_value(self) -> Tensor:
        """Return the value with as many heads as the query, [B, A, Sk, D]."""
        return _repeat_heads(self.value, self.query)

    def detached(self) -> Attention:
        """Return a detached copy."""
        query, key, value = (x.detach() for x in (self.query, self.key, self.value))
        extra = (self.bias, self.own_scores, self.sink)
        bias, own_scores, sink = (None if x is None else x.detach() for x in extra)
        return replace(self, query=query, key=key, value=value, bias=bias, own_scores=own_scores, sink=sink)

    def visible(self) -> Tensor:
        """Return the keys that are visible to each query, boolean [B or 1, 1, Sq, Sk]."""
        shape = (1, 1, self.query.shape[2], self.key.shape[2])
        visible = torch.ones(shape, dtype=torch.bool, device=self.query.device)
        visible = visible.tril() if self.causal else visible
        return visible if self.mask is None else visible & self.mask

    def scores(self) -> Tensor:
        """Return Q K^T * scale + bias, or the model's own scores, in float32, unmasked, [B, A, Sq, Sk]."""
        if self.own_scores is not None:
            return self.own_scores.float()
        # float() alone is not enough: autocast casts the factors of a product back to half precision
        with torch.autocast(self.query.device.type, enabled=False):
            scores = self.query.float() @ self.repeated_key().float().mT * self.scale
        return scores if self.bias is None else scores + self.bias.float()

    def probabilities(self) -> Tensor:
        """Return the softmax over visible keys and sink, without the sink; zeros without a visible key.

        float32, [B, A, Sq, Sk]. What is missing to a sum of 1 is the share of the sink, which has no value.
        """
        hidden = ~self.visible()
        # a finite minimum: a row without a visible key would be NaN here, and stop anomaly detection
        scores = self.scores().masked_fill(hidden, torch.finfo(torch.float32).min)
        columns = scores if self.sink is None else torch.cat([scores, self.sink.float()], -1)
        return columns.softmax(-1)[..., : scores.shape[-1]].masked_fill(hidden, 0.0)


def _repeat_heads(heads: Tensor, query: Tensor) -> Tensor:
    from transformers.integrations.sdpa_attention import repeat_kv  # not above: a config is read without transformers

    return repeat_kv(heads, query.shape[1] // heads.shape[1])


@dataclass
class Trace:
    """The signals of a forward pass that were requested, and no others."""

    logits: Tensor | None
    """``None`` if not requested."""
    hidden: dict[Site, Tensor]
    """[B, S, H] each."""
    attention: dict[Site, Attention]
    valid: dict[str, Tensor]
    """By stack, True at tokens and False at padding, boolean, [B, S]."""
    routing: dict[Site, Tensor] = field(default_factory=dict)
    """The logits of the routers of experts, [B, S, E] each; minus infinity for masked experts."""

    def detached(self) -> Trace:
        """Return a detached copy."""
        return Trace(
            None if self.logits is None else self.logits.detach(),
            {site: state.detach() for site, state in self.hidden.items()},
            {site: attention.detached() for site, attention in self.attention.items()},
            self.valid,
            {site: logits.detach() for site, logits in self.routing.items()},
        )


def check_signals(config: PretrainedConfig, signals: Signals) -> None:
    """Raise ValueError if a model of this config lacks a requested site, or all heads of an attention are pruned."""
    if signals.hidden or signals.attention or signals.routing:
        require(config, "hidden")
    if signals.attention:
        require(config, "attention")
    stacks = family(config).stacks
    hidden = {name: depth(config, name) for name in stacks}
    attention = {name: hidden[name] for name, stack in stacks.items() if stack.attention}
    if signals.attention and not attention:
        raise ValueError(f"attention: a {config.model_type} network has none")
    for name, stack in stacks.items():
        if "cross" in stack.attention:
            attention["cross"] = hidden[name]
    routing = {name: hidden[name] for name, stack in stacks.items() if stack.experts}
    if signals.routing and not routing:
        raise ValueError(f"routing: a {config.model_type} has no experts, or its experts are not known")
    for kind, sites, known, first in (
        ("hidden", signals.hidden, hidden, 0),
        ("attention", signals.attention, attention, 1),
        ("routing", signals.routing, routing, 1),
    ):
        for name, layer in sorted(sites):
            if name not in known:
                raise ValueError(f"{kind}: {config.model_type} has no {name!r}, it has {', '.join(known)}")
            if not first <= layer <= known[name]:
                raise ValueError(f"{kind}: the {name} has layers {first} to {known[name]}, not {layer}")
            if kind == "attention" and layer not in (having := attention_layers(config, name)):
                listed = ", ".join(map(str, having))
                raise ValueError(
                    f"attention: the {name} of a {config.model_type} has it in layers {listed}, not {layer}"
                )
    for name, layer in sorted(signals.attention & _headless(config)):
        raise ValueError(f"attention: no head is left in layer {layer} of the {name}")


def _headless(config: PretrainedConfig) -> set[Site]:
    """Return the attention sites of a pruned model without a head left."""
    sites = set()
    for stack, blocks in (getattr(config, "block_sizes", None) or {}).items():
        count = depth(config, stack)
        for kind, key in ((stack, "heads"), ("cross", "cross_heads")):
            # as in ``families.blocks``: a block that runs several times is listed once
            heads = [blocks[i * len(blocks) // count].get(key) for i in range(count)]
            sites |= {(kind, layer) for layer, num_heads in enumerate(heads, start=1) if num_heads == 0}
    return sites


def last_site(config: PretrainedConfig, signals: Signals) -> Site | None:
    """Return the last hidden site that the signals need; ``None`` if they need logits or nothing."""
    if signals.logits or not signals:
        return None
    order = list(family(config).stacks)
    requested = signals.hidden | signals.attention | signals.routing
    sites = [("decoder" if stack == "cross" else stack, layer) for stack, layer in requested]
    return max(sites, key=lambda site: (order.index(site[0]), site[1]))
