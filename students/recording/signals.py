"""What can be asked of a forward pass, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.families.families import depth, family

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Site = tuple[str, int]
"""(stack, layer): the stack is ``encoder``, ``decoder`` or, for attention, ``cross`` (decoder to encoder).

Hidden layer 0 is the input of the first block and layer i the output of block i, so that the last one is the
state *before* any final norm. Attention layers are 1 to N.
"""


@dataclass(frozen=True)
class Signals:
    """What is asked of a forward pass: ``a | b`` asks for both; asking for nothing is false."""

    logits: bool = False
    hidden: frozenset[Site] = frozenset()
    attention: frozenset[Site] = frozenset()

    def __or__(self, other: Signals) -> Signals:
        hidden, attention = self.hidden | other.hidden, self.attention | other.attention
        return Signals(self.logits or other.logits, hidden, attention)

    def __bool__(self) -> bool:
        return self.logits or bool(self.hidden) or bool(self.attention)


@dataclass
class Attention:
    """What one attention was given: query [B, A, Sq, D]; key, value [B, A or fewer, Sk, D] (grouped heads).

    ``mask`` is boolean, True = visible, [B or 1, 1, Sq or 1, Sk]; ``causal`` hides the future, too.
    ``bias`` is T5's position bias, [1, A, Sq, Sk]; rotary positions are in query and key already.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    bias: Tensor | None
    causal: bool

    def repeated_key(self) -> Tensor:
        """The key with as many heads as the query, [B, A, Sk, D]."""
        return _repeated(self.key, self.query)

    def repeated_value(self) -> Tensor:
        """The value with as many heads as the query, [B, A, Sk, D]."""
        return _repeated(self.value, self.query)

    def detached(self) -> Attention:
        """The same numbers, through which no gradient goes."""
        query, key, value = (x.detach() for x in (self.query, self.key, self.value))
        bias = None if self.bias is None else self.bias.detach()
        return replace(self, query=query, key=key, value=value, bias=bias)

    def visible(self) -> Tensor:
        """Which keys a query may look at, boolean, [B or 1, 1, Sq, Sk]."""
        shape = (1, 1, self.query.shape[2], self.key.shape[2])
        everything = torch.ones(shape, dtype=torch.bool, device=self.query.device)
        visible = everything.tril() if self.causal else everything
        return visible if self.mask is None else visible & self.mask

    def scores(self) -> Tensor:
        """Q K^T * scale + bias in float32, nothing masked, [B, A, Sq, Sk]."""
        # float() alone would not do: autocast turns the factors of a product back into half precision
        with torch.autocast(self.query.device.type, enabled=False):
            scores = self.query.float() @ self.repeated_key().float().mT * self.scale
        return scores if self.bias is None else scores + self.bias.float()

    def probabilities(self) -> Tensor:
        """Softmax of the scores over visible keys, float32, [B, A, Sq, Sk]; zeros where no key is visible."""
        hidden = ~self.visible()
        # a finite floor: a row without a visible key would be NaN on the way, and stop anomaly detection
        floor = torch.finfo(torch.float32).min
        return self.scores().masked_fill(hidden, floor).softmax(-1).masked_fill(hidden, 0.0)


def _repeated(heads: Tensor, query: Tensor) -> Tensor:
    from transformers.integrations.sdpa_attention import repeat_kv  # not above: a config is read without transformers

    return repeat_kv(heads, query.shape[1] // heads.shape[1])


@dataclass
class Trace:
    """What a forward pass left: the sites that were asked for and no others."""

    logits: Tensor | None
    """``None`` if not asked for."""
    hidden: dict[Site, Tensor]
    """[B, S, H] each."""
    attention: dict[Site, Attention]
    valid: dict[str, Tensor]
    """By stack, True at tokens and False at padding, boolean, [B, S]."""

    def detached(self) -> Trace:
        """The same numbers, through which no gradient goes."""
        return Trace(
            None if self.logits is None else self.logits.detach(),
            {site: state.detach() for site, state in self.hidden.items()},
            {site: attention.detached() for site, attention in self.attention.items()},
            self.valid,
        )


def check_signals(config: PretrainedConfig, signals: Signals) -> None:
    """Raises ValueError if a model of this configuration lacks a site that is asked for, naming its depth, or has
    lost all heads of an attention.
    """
    stacks = family(config).stacks
    hidden = {name: depth(config, name) for name in stacks}
    attention = {name: hidden[name] for name, stack in stacks.items() if stack.attention}
    if signals.attention and not attention:
        raise ValueError(f"attention: a {config.model_type} network has none")
    for name, stack in stacks.items():
        if "cross" in stack.attention:
            attention["cross"] = hidden[name]
    for kind, sites, known, first in (
        ("hidden", signals.hidden, hidden, 0),
        ("attention", signals.attention, attention, 1),
    ):
        for stack, layer in sorted(sites):
            if stack not in known:
                raise ValueError(f"{kind}: {config.model_type} has no {stack!r}, it has {', '.join(known)}")
            if not first <= layer <= known[stack]:
                raise ValueError(f"{kind}: the {stack} has layers {first} to {known[stack]}, not {layer}")
    for stack, layer in sorted(signals.attention & _headless(config)):
        raise ValueError(f"attention: no head is left in layer {layer} of the {stack}")


def _headless(config: PretrainedConfig) -> set[Site]:
    """The attentions, of a model whose blocks have sizes of their own, of which no head is left."""
    found = set()
    for stack, blocks in (getattr(config, "block_sizes", None) or {}).items():
        count = depth(config, stack)
        for site, key in ((stack, "heads"), ("cross", "cross_heads")):
            # as in ``families.blocks``: a block that runs several times stands there once
            heads = [blocks[i * len(blocks) // count].get(key) for i in range(count)]
            found |= {(site, layer) for layer, left in enumerate(heads, start=1) if left == 0}
    return found


def last_site(config: PretrainedConfig, signals: Signals) -> Site | None:
    """The hidden site after which nothing asked for is to come; ``None`` if logits are, or nothing is."""
    if signals.logits or not signals:
        return None
    order = list(family(config).stacks)
    asked = signals.hidden | signals.attention
    sites = [("decoder" if stack == "cross" else stack, layer) for stack, layer in asked]
    return max(sites, key=lambda site: (order.index(site[0]), site[1]))
