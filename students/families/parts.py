"""The facts of a model family: where it keeps its blocks, its attention and its feed-forward layers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Projection:
    """A linear layer by its path in the block; of a fused one, slice ``part`` of ``parts`` slices of its outputs."""

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


@dataclass(frozen=True)
class FeedForwardParts:
    """The feed-forward of a block: ``inner`` layers (two if gated) and the ``outer`` layer that takes their output."""

    inner: tuple[str, ...]
    outer: str


@dataclass(frozen=True)
class LayerStack:
    """A stack of equal blocks: its path in the base model, and the parts of one block."""

    blocks: str
    attention: dict[str, AttentionParts]
    """By kind: ``self``, and ``cross`` in the decoder of an encoder-decoder; empty for a recurrent block."""
    ffn: FeedForwardParts | None
    """None for a recurrent block."""
    depth: str = "num_hidden_layers"
    """The key of the config that holds the number of blocks."""
    groups: str = ""
    """The key of the config that holds the number of distinct blocks, if a block can run more than once."""
    recurrence: tuple[str, ...] = ()
    """The linear layers that hold the weights of a recurrent block; a block may lack some of them."""


@dataclass(frozen=True)
class Family:
    """The facts of one ``config.model_type``."""

    stacks: dict[str, LayerStack]
    """``encoder`` or ``decoder``, or both; the first is the default."""
    intermediate: str = "intermediate_size"
    """The key of the config that holds the number of feed-forward neurons."""
    relative_position_bias: bool = False
    """Whether self-attention adds a position bias that the layers share, so that its heads cannot be pruned."""
    scale_decoder_outputs: str = ""
    """The key of the config that says whether the input of the LM head is scaled by the hidden size."""
    width: str = "hidden_size"
    """The key of the config that holds the width of the input of the first block."""
    position_embeddings: str = "embeddings.position_embeddings"
    """The position embeddings in the base model; empty if there are none."""
    position_offset: bool = False
    """Whether positions count from ``pad_token_id + 1`` (RoBERTa), so that the rows before it hold no position."""
    head_size: str = ""
    """The key of the config that may hold the head size; empty if it is always the hidden size by the heads."""
