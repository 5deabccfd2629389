"""The places that a model has for tokens: tables of positions, and how they are made longer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.families.families import family, is_compact, is_recurrent, position_counts

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def check_max_positions(config: PretrainedConfig) -> None:
    """Raise ValueError if a model cannot be given another number of places."""
    if is_recurrent(config):
        raise ValueError("max_position_embeddings: a recurrent network reads texts of any length")
    if family(config).relative_position_bias:
        raise ValueError(f"max_position_embeddings: a {config.model_type} has no places, it reads texts of any length")
    if is_compact(config):
        raise ValueError(
            "max_position_embeddings: a model of a form of its own keeps its places; name the model it was made from"
        )


def set_max_positions(config: PretrainedConfig, count: int) -> None:
    """Write into a config how many tokens the model can read."""
    config.max_position_embeddings = count + position_counts(config)[1]


def resize_position_embeddings(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """The same model with places for ``count`` tokens.

    Raises:
        ValueError: if it cannot have another number of them.
    """
    check_max_positions(model.config)
    config, state = copy.deepcopy(model.config), model.state_dict()
    set_max_positions(config, count)
    for (name, axis), kept in position_entries(model, config).items():
        state[name] = state[name].index_select(axis, kept)
    longer = type(model)(config)
    longer.load_state_dict(state)
    return longer


def position_entries(teacher: PreTrainedModel, student: PretrainedConfig) -> dict[tuple[str, int], Tensor]:
    """The entries of the teacher's table of positions that a student with more or fewer of them has: the same again
    and again, as Longformer's began (Beltagy 2020, arXiv 2004.05150). {} where there is no table.
    """
    if not (path := family(student).position_embeddings):
        return {}
    (before, skipped), (after, _) = position_counts(teacher.config), position_counts(student)
    table = teacher.base_model.get_submodule(path)
    name = next(name for name, module in teacher.named_modules() if module is table)
    kept = torch.cat([torch.arange(skipped), skipped + torch.arange(after) % before])
    return {(f"{name}.weight", 0): kept}
