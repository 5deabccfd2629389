"""Small forms of students, each of which changes the outputs of the tiny models; shared by the tests."""

import warnings

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
from students.forms.compatibility import refusal
from students.forms.embeddings import Factorised, TensorTrain
from students.forms.form import Form
from students.forms.low_rank import LowRank
from students.forms.share_layers import ShareLayers
from students.kinds.transformer import Transformer
from tests.helpers.families import tiny_config

ATTENTIONS = {
    "LocalAttention": LocalAttention(window=4),
    "FixedAttention": FixedAttention(block=4, summaries=1),
    "BlockAttention": BlockAttention(blocks=4),
    "LinearAttention": LinearAttention(),
    "Performer": Performer(features=16),
    "EfficientAttention": EfficientAttention(),
    "Linformer": Linformer(length=8),
}
OTHERS = {
    "share_layers": ShareLayers(),
    "low_rank": LowRank(rank=6, where=["attention", "ffn", "head"]),
    "Factorised": Factorised(rank=8),
    "TensorTrain": TensorTrain(rank=4),
}
FORMS: dict[str, Form] = ATTENTIONS | OTHERS


def key_of(name: str) -> str:
    """The key of a form in a student."""
    return "attention" if name in ATTENTIONS else name if name in ("share_layers", "low_rank") else "embeddings"


def student_of(*names: str, **base) -> Transformer:
    return Transformer(**{key_of(name): FORMS[name] for name in names}, **base)


def build(student: Transformer, teacher, batches=()):
    torch.manual_seed(0)  # a Performer draws its directions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of layers that stay at full rank
        return student.build(teacher, None, None, batches=batches).eval()


def logits(model, inputs):
    with torch.no_grad():
        return model.eval()(**{key: value for key, value in inputs.items() if key != "labels"}).logits


def can_be(name: str, family: str) -> bool:
    return not refusal(FORMS[name], tiny_config(family))
