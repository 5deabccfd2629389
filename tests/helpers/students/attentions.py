"""Small students with another attention, and rows longer than its windows."""

import warnings

import pytest
import torch

from students.forms.attention import (
    BlockAttention,
    EfficientAttention,
    FixedAttention,
    LinearAttention,
    Linformer,
    LocalAttention,
    Performer,
)
from students.kinds.transformer import Transformer
from tests.helpers.families import FAMILIES, batch, tiny

KINDS = {
    LocalAttention: {"window": 8},
    FixedAttention: {"block": 4, "summaries": 1},
    BlockAttention: {"blocks": 4},
    LinearAttention: {},
    Performer: {"features": 24},
    EfficientAttention: {},
    Linformer: {"length": 16},
}
"""Small ones, that are another attention than the teacher's on 100 tokens."""
ENCODING = (BlockAttention, EfficientAttention, Linformer)


PAIRS = [
    (kind, name)
    for kind in KINDS
    for name in FAMILIES
    if name != "t5" and not (kind in ENCODING and name in ("gpt2", "llama"))
]
EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
EVERY = pytest.mark.parametrize("kind, name", PAIRS, ids=[f"{kind.__name__}-{name}" for kind, name in PAIRS])


def student(kind, name="bert", head="classification", teacher=None, **fields):
    """In eval mode; anything but the attention that would start at random is an error."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        given = {"attention": kind(**KINDS[kind])} if kind else {}
        built = Transformer(**given | {"max_position_embeddings": 120} | fields)
        return built.build(teacher or tiny(name, head=head), None, None).eval()


def long(name, size=3, length=100, **given):
    """Rows of 100, 98 and so on tokens."""
    return batch(name, size=size, length=length, **given)


def logits(model, inputs):
    with torch.no_grad():
        return model(**{key: value for key, value in inputs.items() if key != "labels"}).logits
