"""Sub-quadratic attention; the projections of queries, keys and values stay."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from students.attention.blocks import BlockCore, FixedCore
from students.attention.linear import EfficientCore, EluCore, FavorCore
from students.attention.linformer import LinformerCore
from students.attention.local import LocalCore
from students.families.families import attention_parts, blocks, position_counts, require
from students.forms.form import Form, check_sizes
from students.saved_classes import find_class

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class Attention(Form):
    """Sub-quadratic attention in every block, with the block's own projections."""

    key = "attention"
    not_after = ("attention", "share_layers")  # blocks that share all layers share the parameters of their attention
    replaces_attention = True

    @abstractmethod
    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        """Return the ``core_attention`` of one layer, called as the modules in ``students.attention``.

        Args:
            config: of the student.
            head_size: of the layer.
        """

    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        student.config.attention = {"kind": type(self).__name__} | asdict(self)
        replace_attention(student, student.config.attention)


def replace_attention(model: PreTrainedModel, saved: dict[str, Any]) -> None:
    """Replace the attention of every block, in place, before weights are loaded.

    Args:
        model: the model.
        saved: the entry of the config: ``kind``, the name of a subclass of ``Attention``, and its fields.

    Raises:
        ValueError: if the class or its fields are not known.
    """
    kind = find_class(Attention, str(saved.get("kind")))
    if kind is None:
        raise ValueError(f"attention: {saved.get('kind')!r} is not known; import the module that defines it first")
    try:
        form = kind(**{name: value for name, value in saved.items() if name != "kind"})
    except TypeError as error:
        raise ValueError(f"attention: {saved} does not fit {kind.__name__}: {error}") from error
    for name, stack in require(model.config, "structure").items():
        for block in dict.fromkeys(blocks(model, name)):
            for parts in attention_parts(stack).values():
                owner = block.get_submodule(parts.module)
                owner.core_attention = form.module(model.config, getattr(owner, parts.head_dim))


@dataclass(kw_only=True)
class LocalAttention(Attention):
    """Sliding-window attention with global tokens at the start: Longformer (Beltagy 2020, arXiv 2004.05150).

    Unlike Longformer's, global tokens share the projections of the others, which are the teacher's.

    Args:
        window: number of neighbours that a token attends to, half of them on each side; a decoder uses the left half.
        global_tokens: number of first tokens that attend to all tokens and that all attend to; in a decoder the latter.
    """

    window: int = 256
    global_tokens: int = 1

    def __post_init__(self) -> None:
        check_sizes(self, "window", minimum=2)
        check_sizes(self, "global_tokens", minimum=0)
        if self.window % 2:
            raise ValueError(f"window: must be even, with half of it on each side, not {self.window}")

    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        return LocalCore(self.window, self.global_tokens)


@dataclass(kw_only=True)
class FixedAttention(Attention):
    """Attention to the own block and the last tokens of all blocks: the fixed pattern of the Sparse Transformer (Child
    2019, arXiv 1904.10509).

    Args:
        block: number of tokens of a block.
        summaries: number of last tokens of a block that all tokens attend to.
    """

    block: int = 128
    summaries: int = 8

    def __post_init__(self) -> None:
        check_sizes(self, "block", "summaries")
        if self.summaries > self.block:
            raise ValueError(f"summaries: a block has {self.block} tokens, not {self.summaries}")

    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        return FixedCore(self.block, self.summaries)


@dataclass(kw_only=True)
class BlockAttention(Attention):
    """Attention of each block of the text to one block, per head: BlockBERT (Qiu 2020, arXiv 1911.02972).

    Args:
        blocks: number of blocks of a text of ``max_position_embeddings`` tokens; a shorter one has fewer.
    """

    encoder_only = "its blocks attend to later ones"

    blocks: int = 2

    def __post_init__(self) -> None:
        check_sizes(self, "blocks")

    def check(self, student: PretrainedConfig) -> None:
        max_blocks = (student.num_attention_heads - 1) // max(1, student.num_attention_heads // 6) + 1
        if self.blocks > max_blocks:
            raise ValueError(
                f"blocks: at most {max_blocks} are possible with {student.num_attention_heads} heads, not {self.blocks}"
            )

    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        return BlockCore(self.blocks, position_counts(config)[0], config.num_attention_heads)


@dataclass(kw_only=True)
class LinearAttention(Attention):
    """Linear attention with features elu(x) + 1 of queries and keys (Katharopoulos 2020, arXiv 2006.16236)."""

    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        return EluCore()


@dataclass(kw_only=True)
class Performer(Attention):
    """Softmax attention estimated by random features, drawn once: FAVOR+ (Choromanski 2021, arXiv 2009.14794).

    Args:
        features: number of random features; more are closer to the teacher's attention, and slower.
    """

    features: int = 256

    def __post_init__(self) -> None:
        check_sizes(self, "features")

    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        return FavorCore(self.features, head_size)


@dataclass(kw_only=True)
class EfficientAttention(Attention):
    """Linear attention: softmax of keys over the text, of queries over dimensions (Shen 2018, arXiv 1812.01243)."""

    encoder_only = "its keys are normalised over the whole text"

    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        return EfficientCore()


@dataclass(kw_only=True)
class Linformer(Attention):
    """Keys and values projected, along the text, to a fixed number (Wang 2020, arXiv 2006.04768).

    The projections, one pair in each layer, are initialized as means over equal pieces of the text. Blocks that share
    all layers share them.

    Args:
        length: number of projected keys for a text of ``max_position_embeddings`` tokens; a shorter one has fewer.
        shared: whether keys and values share the projection.
    """

    encoder_only = "a projected key mixes earlier and later tokens"

    length: int = 128
    shared: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "length")

    def check(self, student: PretrainedConfig) -> None:
        if self.length > position_counts(student)[0]:
            raise ValueError(
                f"length: the student reads {position_counts(student)[0]} tokens, fewer than {self.length}"
            )

    def module(self, config: PretrainedConfig, head_size: int) -> nn.Module:
        return LinformerCore(self.length, position_counts(config)[0], self.shared)
