"""What we know of model families: where each keeps its blocks, its attention and its feed-forward parts.

The only place of the project that names a family. To add one, add one entry to ``FAMILIES``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Projection:
    """A linear layer as seen from its block; of a fused one, the ``part``-th of ``parts`` slices of its outputs."""

    path: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class AttentionParts:
    """One attention of a block: the module that calls the attention function, and its linear layers."""

    module: str
    query: Projection
    key: Projection
    value: Projection
    output: str
    size: str
    """Attribute of the module that holds the size of one head."""
    heads: tuple[str, ...]
    """Attributes of the module that hold its number of heads."""
    width: tuple[str, ...] = ()
    """Attributes of the module that hold heads times head size."""
    split: str = ""
    """Attribute of the module that holds the size, or sizes, into which it splits what a fused projection gives."""
    sharing: str = ""
    """Attribute of the module that holds how many query heads share a key, where they do."""
    zero_bias: tuple[str, int] | None = None
    """The argument by which blocks hand on a bias that is zero here and made for all, and its place in what the module
    returns."""


@dataclass(frozen=True)
class FeedForwardParts:
    """The feed-forward of a block: ``inner`` (two if gated) makes the intermediate units, ``outer`` reads them."""

    inner: tuple[str, ...]
    outer: str


@dataclass(frozen=True)
class Stack:
    """A stack_module of equal blocks: its path in the base model, and what one block holds."""

    blocks: str
    attention: dict[str, AttentionParts]
    """By kind: ``self``, and ``cross`` in the decoder of an encoder-decoder; of a recurrent block none."""
    ffn: FeedForwardParts | None
    """None of a recurrent block."""
    depth: str = "num_hidden_layers"
    """The key of the config that holds the number of blocks."""
    groups: str = ""
    """The key of the config that holds the number of different blocks, if they can be fewer than are run."""
    recurrence: tuple[str, ...] = ()
    """The linear layers that a recurrent block may have, which hold its weights."""


@dataclass(frozen=True)
class Family:
    """The facts of one ``config.model_type``."""

    stacks: dict[str, Stack]
    """``encoder`` or ``decoder``, or both; the first is meant where no stack is named."""
    intermediate: str = "intermediate_size"
    """The key of the config that holds the number of feed-forward units."""
    relative_position_bias: bool = False
    """Whether a position bias, shared by the layers, is added to the scores of self-attention: its heads cannot be cut
    then."""
    scaled: str = ""
    """The key of the config that says whether what a language model reads off is scaled by its hidden size."""
    width: str = "hidden_size"
    """The key of the config that holds the width of what the first block reads."""
    positions: str = "embeddings.position_embeddings"
    """The table of positions in the base model; empty where there is none."""
    position_offset: bool = False
    """Whether the first position is the one after the padding token's number; the ones up to it are no places."""
    head_size: str = ""
    """The key of the config that may hold the size of a head; empty where it is always the hidden size by the heads."""


def _bert(prefix: str = "attention") -> Stack:
    attention = AttentionParts(
        "attention.self",
        Projection("attention.self.query"),
        Projection("attention.self.key"),
        Projection("attention.self.value"),
        "attention.output.dense",
        "attention_head_size",
        ("num_attention_heads",),
        ("all_head_size",),
    )
    return Stack("encoder.layer", {"self": attention}, FeedForwardParts(("intermediate.dense",), "output.dense"))


def _plain(
    module: str, names: tuple[str, str, str, str], size: str, heads: tuple[str, ...], width: tuple[str, ...]
) -> AttentionParts:
    q, k, v, o = (f"{module}.{name}" for name in names)
    return AttentionParts(module, Projection(q), Projection(k), Projection(v), o, size, heads, width)


_DISTILBERT = Stack(
    "transformer.layer",
    {
        "self": _plain(
            "attention", ("q_lin", "k_lin", "v_lin", "out_lin"), "attention_head_size", ("n_heads",), ("dim",)
        )
    },
    FeedForwardParts(("ffn.lin1",), "ffn.lin2"),
)
_ALBERT = Stack(
    "encoder.albert_layer_groups",
    {
        "self": _plain(
            "albert_layers.0.attention",
            ("query", "key", "value", "dense"),
            "attention_head_size",
            ("num_attention_heads",),
            ("all_head_size",),
        )
    },
    FeedForwardParts(("albert_layers.0.ffn",), "albert_layers.0.ffn_output"),
    groups="num_hidden_groups",
)
_GPT2 = Stack(
    "h",
    {
        "self": AttentionParts(
            "attn",
            Projection("attn.c_attn", 0, 3),
            Projection("attn.c_attn", 1, 3),
            Projection("attn.c_attn", 2, 3),
            "attn.c_proj",
            "head_dim",
            ("num_heads",),
            ("embed_dim",),
            "split_size",
        )
    },
    FeedForwardParts(("mlp.c_fc",), "mlp.c_proj"),
)
_LLAMA = Stack(
    "layers",
    {
        "self": replace(
            _plain("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj"), "head_dim", (), ()),
            sharing="num_key_value_groups",
        )
    },
    FeedForwardParts(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
)
_T5_SELF = _plain("layer.0.SelfAttention", ("q", "k", "v", "o"), "key_value_proj_dim", ("n_heads",), ("inner_dim",))
_T5_CROSS = replace(
    _plain("layer.1.EncDecAttention", ("q", "k", "v", "o"), "key_value_proj_dim", ("n_heads",), ("inner_dim",)),
    zero_bias=("position_bias", 1),
)
_T5_INNER = ("DenseReluDense.wi", "DenseReluDense.wi_0", "DenseReluDense.wi_1")
_T5 = {
    "encoder": Stack(
        "encoder.block",
        {"self": _T5_SELF},
        FeedForwardParts(tuple(f"layer.1.{name}" for name in _T5_INNER), "layer.1.DenseReluDense.wo"),
        "num_layers",
    ),
    "decoder": Stack(
        "decoder.block",
        {"self": _T5_SELF, "cross": _T5_CROSS},
        FeedForwardParts(tuple(f"layer.2.{name}" for name in _T5_INNER), "layer.2.DenseReluDense.wo"),
        "num_decoder_layers",
    ),
}

_HELD = tuple(f"{way}.{name}" for way in ("ahead", "back") for name in ("input", "recurrent", "projection"))
_RECURRENT = Stack("layers", {}, None, recurrence=_HELD)

RECURRENT = "recurrent"
"""The ``model_type`` of our recurrent networks."""
COMPACT = "compact-"
"""What stands before the family in the ``model_type`` of a model of a form of its own."""

FAMILIES: dict[str, Family] = {
    "bert": Family({"encoder": _bert()}),
    "roberta": Family({"encoder": _bert()}, position_offset=True),
    "electra": Family({"encoder": _bert()}),
    "distilbert": Family({"encoder": _DISTILBERT}, intermediate="hidden_dim"),
    "albert": Family({"encoder": _ALBERT}),
    "gpt2": Family({"decoder": _GPT2}, intermediate="n_inner", positions="wpe"),
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
        Family({"decoder": _LLAMA}, positions="", head_size="head_dim"),
    ),
    "t5": Family(_T5, intermediate="d_ff", relative_position_bias=True, scaled="scale_decoder_outputs", positions=""),
    RECURRENT: Family({"encoder": _RECURRENT}, width="embedding_size", positions=""),
}


def is_compact(config: PretrainedConfig) -> bool:
    """Whether this is the config of a model of a form that no stock one has."""
    return config.model_type.startswith(COMPACT)


def is_recurrent(config: PretrainedConfig) -> bool:
    """Whether this is the config of a recurrent network: without attention, feed-forwards and a residual stream."""
    return config.model_type == RECURRENT


def family(config: PretrainedConfig) -> Family:
    """The facts of a model's family; those of the stock family for one of our compact models.

    Raises:
        ValueError: if the family is not known, naming those that are.
    """
    name = config.model_type.removeprefix(COMPACT)
    if name not in FAMILIES:
        raise ValueError(f"model family {name!r} is not known; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def depth(config: PretrainedConfig, stack: str | None = None) -> int:
    """The number of blocks of a stack (of the first one if none is named).

    Raises:
        ValueError: if the family has no such stack.
    """
    return getattr(config, find_stack(config, stack)[1].depth)


def find_stack(config: PretrainedConfig, stack: str | None = None) -> tuple[str, Stack]:
    """The name and the facts of a stack (of the first one if none is named).

    Raises:
        ValueError: if the family has no such stack.
    """
    stacks = family(config).stacks
    name = next(iter(stacks)) if stack is None else stack
    if name not in stacks:
        raise ValueError(f"stack: {config.model_type} has no {name!r}; it has {', '.join(stacks)}")
    return name, stacks[name]


def blocks(model: PreTrainedModel, stack: str | None = None) -> list[nn.Module]:
    """The blocks in the order in which they run; a block that runs several times (ALBERT) stands there as often."""
    modules = model.base_model.get_submodule(find_stack(model.config, stack)[1].blocks)
    count = depth(model.config, stack)
    return [modules[i * len(modules) // count] for i in range(count)]


def repeats_blocks(config: PretrainedConfig, stack: str | None = None) -> bool:
    """Return whether a block of a stack (of the first one if none is named) runs more than once (ALBERT)."""
    key = find_stack(config, stack)[1].groups
    return bool(key) and getattr(config, key) < depth(config, stack)


def intermediate_size(config: PretrainedConfig) -> int:
    """The number of feed-forward units of a block."""
    size = getattr(config, family(config).intermediate)
    return 4 * config.hidden_size if size is None else size


def width(config: PretrainedConfig, layer: int) -> int:
    """The width of the states of a layer; 0 is the input of the first block."""
    return config.hidden_size if layer else getattr(config, family(config).width)


def fix_head_size(config: PretrainedConfig) -> None:
    """Write the size of a head into a config that leaves it to the hidden size, where its family reads one: then it
    stays as it is, whatever the hidden size and the number of heads become.
    """
    key = family(config).head_size
    if key and getattr(config, key, None) is None:
        setattr(config, key, config.hidden_size // config.num_attention_heads)


def is_causal(config: PretrainedConfig, stack: str | None = None) -> bool:
    """Whether a stack of the model, or some stack if none is named, sees only what lies before."""
    return "decoder" in ([stack] if stack else family(config).stacks) or getattr(config, "is_decoder", False)


def has_places(config: PretrainedConfig) -> bool:
    """Whether the model has a table of positions, beyond which it cannot read."""
    return bool(family(config).positions)


def positions(config: PretrainedConfig) -> tuple[int, int]:
    """How many tokens the config has places for, and how many entries of a table of positions stand before them."""
    skipped = config.pad_token_id + 1 if family(config).position_offset else 0
    return config.max_position_embeddings - skipped, skipped
