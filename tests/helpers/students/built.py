"""Students that are cut from a teacher, and their logits."""

import copy
import warnings

import torch

from students.kinds.transformer import Transformer
from tests.helpers.families import batch


def build(teacher, **fields):
    """A student with the teacher's labels; anything that would start at random is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return Transformer(**fields).build(teacher, None, None)


def logits(model):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(**batch(model.config.model_type)).logits


def repositioned(teacher, positions: int = 120):
    """The teacher with that many position embeddings, in eval mode."""
    return Transformer(max_position_embeddings=positions).build(teacher, None, None).eval()
