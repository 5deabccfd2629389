"""The positions that a model can take: position embeddings, and how they are lengthened."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.families.families import family, is_compact, own_kind, position_counts, require

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def check_max_positions(config: PretrainedConfig) -> None:
    """Raise ValueError if a model cannot be given another number of positions."""
    key = "max_position_embeddings"
    if own := own_kind(config):
        raise ValueError(f"{key}: a {own} reads texts of any length")
    require(config, "structure", key)
    path = family(config).position_embeddings
    if path is None:
        raise ValueError(f"{key}: where a {config.model_type} keeps its positions is not known")
    if not path and family(config).has_fixed_heads:
        raise ValueError(f"{key}: a {config.model_type} has relative positions and reads texts of any length")
    if is_compact(config):
        raise ValueError(f"{key}: a compact model keeps its positions; name the model that it was made from")


def set_max_positions(config: PretrainedConfig, count: int) -> None:
    """Write into a config the number of tokens that the model can read."""
    config.max_position_embeddings = count + position_counts(config)[1]


def resize_position_embeddings(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """Return a copy of the model with ``count`` positions.

    Raises:
        ValueError: if the number of its positions is fixed.
    """
    check_max_positions(model.config)
    config, state = copy.deepcopy(model.config), model.state_dict()
    set_max_positions(config, count)
    for (name, axis), index in position_entries(model, config).items():
        state[name] = state[name].index_select(axis, index)
    resized = type(model)(config)
    resized.load_state_dict(state)
    return resized


def position_entries(teacher: PreTrainedModel, student: PretrainedConfig) -> dict[tuple[str, int], Tensor]:
    """Return the rows of the teacher's position embeddings for a student with more or fewer positions.

    More positions repeat the teacher's, as in Longformer (Beltagy 2020, arXiv 2004.05150).

    Returns:
        {(weight name, axis): indices}; empty for a family whose position embeddings are not known, or that has none.
    """
    if not (path := family(student).position_embeddings):
        return {}
    (teacher_count, offset), (student_count, _) = position_counts(teacher.config), position_counts(student)
    embeddings = teacher.base_model.get_submodule(path)
    name = next(name for name, module in teacher.named_modules() if module is embeddings)
    index = torch.cat([torch.arange(offset), offset + torch.arange(student_count) % teacher_count])
    return {(f"{name}.weight", 0): index}
