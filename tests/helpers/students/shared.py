"""Small students whose blocks share layers."""

import warnings

import torch

from students.forms.share_layers import ShareLayers
from students.kinds.transformer import Transformer
from tests.helpers.families import FAMILIES, batch

SHARING = [name for name in FAMILIES if name != "albert"]
WAYS = [{}, {"shared_modules": "ffn"}, {"shared_modules": "attention", "groups": 2}, {"keep_ends": True}]


def build(teacher, **fields):
    """A student with the teacher's labels, in eval mode; anything that would start at random is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return student_of(**fields).build(teacher, None, None).eval()


def student_of(**fields):
    """The fields of the form, and those of the base."""
    form = {key: fields.pop(key) for key in ("shared_modules", "groups", "keep_ends") if key in fields}
    return Transformer(share_layers=ShareLayers(**form), **fields)


def logits(model, name, head="classification"):
    with torch.no_grad():
        return model(**batch(name, head=head)).logits
