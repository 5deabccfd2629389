"""Small students with layers in two factors."""

import warnings

import torch
from transformers import PreTrainedModel

from students.kinds.transformer import Transformer
from tests.helpers.families import Head, batch, low_rank, tiny

ALL = ["attention", "ffn", "embeddings", "head"]


def build(name: str, head: Head = "classification", **fields) -> PreTrainedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return student_of(**fields).build(tiny(name, head=head), None, None).eval()


def student(name: str, **fields) -> PreTrainedModel:
    """All layers in two factors of nearly full rank."""
    return build(name, **{"param_ratio": 0.9, "where": ALL} | fields)


def student_of(**fields) -> Transformer:
    """The fields of a rule, and those of the base."""
    rule = {key: fields.pop(key) for key in ("rank", "param_ratio", "energy") if key in fields}
    return low_rank(rule=rule, **fields)


def logits(model: PreTrainedModel, name: str, head: Head = "classification") -> torch.Tensor:
    return logits_of(model, batch(name, head=head))


def logits_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**{key: value for key, value in inputs.items() if key != "labels"}).logits
