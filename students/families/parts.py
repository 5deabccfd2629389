"""Facts of a model family: where it keeps its blocks, its attention and its feed-forward parts."""

from dataclasses import dataclass


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
