"""The facts of a model family: where it keeps its blocks, its attention and its feed-forward layers."""

from dataclasses import dataclass, field
from typing import Literal

Level = Literal["outputs", "hidden", "attention", "structure"]
"""How much is known of a family; each level has what the ones before it have.

- ``outputs``: logits. Losses on them, pruning of elements, quantization.
- ``hidden``: the blocks. Losses on hidden states, students of fewer layers.
- ``attention``: the module of a block that computes attention. Losses on attention.
- ``structure``: the layers of attention and feed-forward. Students of another width, pruning of heads and neurons.
"""


@dataclass(frozen=True)
class Projection:
    """A linear layer by its path in the block; of a fused one, slice ``part`` of ``parts`` slices of its outputs.

    Its outputs belong to units in their order: to each neuron ``per_unit`` of them, to each head ``per_unit`` times the
    head size (3 in GPT-NeoX, whose query, key and value of a head are neighbours).
    """

    path: str
    part: int = 0
    parts: int = 1
    per_unit: int = 1


@dataclass(frozen=True)
class AttentionSite:
    """One attention of a block: the module that calls the attention function, or computes attention itself."""

    module: str
    is_watched: bool = field(default=False, kw_only=True)
    """Whether it goes through no attention function that says all: it is watched (``students.attention.watch``)."""
    head_ratio: int = field(default=1, kw_only=True)
    """The number of heads in the config by that of the attention (ConvBERT)."""
    layers: tuple[int, ...] = field(default=(), kw_only=True)
    """The layers that have it, from 1, if not all blocks do, as in hybrids; else empty."""


@dataclass(frozen=True)
class AttentionParts(AttentionSite):
    """An attention whose linear layers are known."""

    queries: tuple[Projection, ...]
    """With outputs for each query head."""
    keys: tuple[Projection, ...]
    """With outputs for each key and value head; empty if ``queries`` hold them too."""
    output: str
    """The linear layer that takes what all heads give."""
    head_dim: str
    """Attribute of the module that holds the size of one head."""
    num_heads: tuple[str, ...]
    """Attributes of the module that hold its number of heads."""
    inner_dim: tuple[str, ...] = ()
    """Attributes of the module that hold the number of heads times the head size."""
    split_size: str = ""
    """Attribute of the module that holds the size, or sizes, into which it splits the output of a fused projection."""
    num_key_value_groups: str = ""
    """Attribute of the module that holds how many query heads share a key and value head; empty if it has none."""
    zero_bias: tuple[str, int] | None = None
    """A position bias that blocks pass on and that is zero in this attention: the argument that takes it, and its index
    in what the module returns."""
    needs_a_head: bool = False
    """Whether the module fails without any head."""


@dataclass(frozen=True)
class FeedForwardParts:
    """The feed-forward of a block: ``inner`` layers (two if gated) and the ``outer`` layer that takes their output."""

    inner: tuple[Projection, ...]
    """A block may lack some of them."""
    outer: str


@dataclass(frozen=True)
class ExpertParts:
    """The experts of a block, of which its router chooses a few for each token; a block may lack them."""

    router: str
    """The module that gives each expert a logit, by its path in the block."""
    logits: int | None
    """The index of the logits in what the router returns; None if it returns nothing else."""
    experts: str
    """The module that is called with the chosen experts of each token and their weights."""
    parameters: tuple[tuple[str, str, int], ...]
    """Module, name and axis of the experts of each parameter: those of the router first, those of the output last."""
    buffers: tuple[tuple[str, str, int], ...]
    """Likewise of each buffer, as of the bias by which DeepSeek's router chooses."""
    num_outputs: int
    """How many of ``parameters``, the last ones, give the output of an expert: it is linear in them."""
    counters: tuple[tuple[str, str], ...]
    """Module and name of each attribute that holds the number of experts."""
    limits: tuple[tuple[str, str], ...]
    """Module and name of each attribute that holds how many experts a token gets, at most all of them."""
    num_experts: str
    """The key of the config that holds the number of experts."""
    per_token: str
    """The key of the config that holds how many experts a token gets; empty if it has none."""
    fewest: int = 1
    """How many experts a block needs: 2 if its router looks for the best two of a group (DeepSeek-V3, GLM-4)."""


@dataclass(frozen=True)
class LayerStack:
    """A stack of equal blocks: its path in the base model, and the parts of one block."""

    blocks: str
    attention: dict[str, AttentionSite]
    """By kind: ``self``, and ``cross`` in the decoder of an encoder-decoder; empty if there is none, or none is known.
    """
    ffn: FeedForwardParts | None
    """None if there is none, as in a recurrent block, or it is not known."""
    depth: str = "num_hidden_layers"
    """The key of the config that holds the number of blocks."""
    heads: str = "num_attention_heads"
    """The key of the config that holds the number of query heads."""
    intermediate: str = "intermediate_size"
    """The key of the config that holds the number of feed-forward neurons; empty if there are always four times as many
    as hidden dimensions (Bloom)."""
    groups: str = ""
    """The key of the config that holds the number of distinct blocks, if a block can run more than once."""
    sequence_first: bool = False
    """Whether hidden states inside the model are [S, B, H] (XLNet)."""
    recurrence: tuple[str, ...] = ()
    """The linear layers that hold the weights of a recurrent block; a block may lack some of them."""
    experts: ExpertParts | None = None
    """None if there are none, or they are not known."""


def layer_paths(stack: LayerStack) -> list[str]:
    """Return the paths of all modules of a block that are known and that every block has."""
    paths = [site.module for site in stack.attention.values()]
    for parts in stack.attention.values():
        if isinstance(parts, AttentionParts):
            paths += [*(layer.path for layer in (*parts.queries, *parts.keys)), parts.output]
    return paths + ([stack.ffn.outer] if stack.ffn else [])


@dataclass(frozen=True)
class Family:
    """The facts of one ``config.model_type``."""

    stacks: dict[str, LayerStack]
    """``encoder`` or ``decoder``, or both; the first is the default. Empty if they are not known."""
    has_fixed_heads: bool = False
    """Whether heads cannot be cut one by one: layers share a position bias with an entry for each, or a norm runs over
    all of them."""
    width: str = "hidden_size"
    """The key of the config that holds the width of the input of the first block."""
    joint_widths: tuple[str, ...] = ()
    """Keys of the config that have to change with the hidden size."""
    position_embeddings: str | None = "embeddings.position_embeddings"
    """The position embeddings in the base model; empty if there are none, None if that is not known."""
    position_offset: bool = False
    """Whether positions count from ``pad_token_id + 1`` (RoBERTa), so that the rows before it hold no position."""
    head_size: str = ""
    """The key of the config that may hold the head size; empty if it is always the hidden size by the heads."""
    level: Level = "structure"
    """How much of the family is known."""
    failure: str = ""
    """Why no more is known, if the model's own code failed when a tiny model was tried."""
