"""Students whose attention costs less than the square of the length; the rest of them is the teacher's, or a part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from students.families.families import family, is_causal, positions
from students.kinds.student import check_sizes
from students.kinds.transformer import Transformer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class _Replaced(Transformer):
    only_before: ClassVar[str] = ""
    """Why there is no form for decoders, if there is none."""

    def check(self, teacher: PretrainedConfig | None) -> None:
        super().check(teacher)
        kind = type(self).__name__
        if family(teacher).biased_scores:
            raise ValueError(f"kind: a {teacher.model_type} adds a bias to all pairs of tokens, which {kind} has not")
        if self.only_before and is_causal(teacher):
            raise ValueError(f"kind: {kind} is for encoders, and a {teacher.model_type} is none: {self.only_before}")
        self.fit(self._config(teacher))

    def fit(self, student: PretrainedConfig) -> None:
        """Raise ValueError if a field does not fit the student's configuration."""

    def alter(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]]) -> None:
        own = {field.name for field in fields(self)} - {field.name for field in fields(Transformer)}
        from students.attention.interface import attend  # not above: a config is read without transformers
        from students.compact.models import become_compact

        become_compact(student)
        student.config.attends = {"kind": type(self).__name__} | {name: getattr(self, name) for name in sorted(own)}
        attend(student, student.config.attends)


@dataclass(kw_only=True)
class LocalAttention(_Replaced):
    """A Transformer in which a token sees its neighbours, and the first tokens see and are seen by all: Longformer
    (Beltagy 2020, arXiv 2004.05150), whose global tokens have projections of their own; here they have the teacher's.

    Args:
        window: neighbours that a token sees, half of them on each side; of a decoder the half before it.
        global_tokens: how many of the first tokens see and are seen by all; of a decoder, are seen.
    """

    window: int = 256
    global_tokens: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "window", least=2)
        check_sizes(self, "global_tokens", least=0)
        if self.window % 2:
            raise ValueError(f"window: half of it lies on each side, so it is even, not {self.window}")


@dataclass(kw_only=True)
class FixedAttention(_Replaced):
    """A Transformer in which a token sees its block and the last tokens of all blocks: the fixed pattern of the Sparse
    Transformer (Child 2019, arXiv 1904.10509).

    Args:
        block: tokens of a block.
        summaries: how many of its last tokens all see.
    """

    block: int = 128
    summaries: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "block", "summaries")
        if self.summaries > self.block:
            raise ValueError(f"summaries: a block has {self.block} tokens, not {self.summaries}")


@dataclass(kw_only=True)
class BlockAttention(_Replaced):
    """A Transformer whose heads let a block of the text see one block, most heads itself: BlockBERT (Qiu 2020, arXiv
    1911.02972).

    Args:
        blocks: into how many a text of full length, ``positions``, is divided; a shorter one has fewer.
    """

    only_before = "its blocks see later ones"

    blocks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "blocks")

    def fit(self, student: PretrainedConfig) -> None:
        most = (student.num_attention_heads - 1) // max(1, student.num_attention_heads // 6) + 1
        if self.blocks > most:
            raise ValueError(f"blocks: {student.num_attention_heads} heads can look {most} ways, not {self.blocks}")


@dataclass(kw_only=True)
class LinearAttention(_Replaced):
    """A Transformer whose attention is a product of features, elu(x) + 1, of queries and keys, so that keys are summed
    up once for all queries (Katharopoulos 2020, arXiv 2006.16236).
    """


@dataclass(kw_only=True)
class Performer(_Replaced):
    """A Transformer whose softmax attention is estimated by random features, drawn once: FAVOR+ (Choromanski 2021,
    arXiv 2009.14794).

    Args:
        features: how many; more are closer to the teacher's attention, and slower.
    """

    features: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "features")


@dataclass(kw_only=True)
class EfficientAttention(_Replaced):
    """A Transformer whose keys are a softmax over the text, and its queries one over their dimensions (Shen 2018, arXiv
    1812.01243).
    """

    only_before = "its keys are normalised over the whole text"


@dataclass(kw_only=True)
class Linformer(_Replaced):
    """A Transformer whose keys and values are projected, along the text, to a fixed number of them (Wang 2020, arXiv
    2006.04768). The projections, one pair in each layer, begin as means over equal pieces.

    Args:
        length: how many projected keys there are of a text of full length, ``positions``; a shorter one has fewer.
        shared: whether keys and values have one projection.
    """

    only_before = "a projected key mixes what lies before a token with what comes after it"

    length: int = 128
    shared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "length")

    def fit(self, student: PretrainedConfig) -> None:
        if self.length > positions(student)[0]:
            raise ValueError(f"length: the student reads {positions(student)[0]} tokens, fewer than {self.length}")
