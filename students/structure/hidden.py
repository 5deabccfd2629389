"""The hidden dimensions of a model: what belongs to one, from embeddings to head, and how they are cut out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import fix_head_size
from students.families.linear import is_linear
from students.structure.factored import rank_components
from students.structure.units import Slice, Units, heads, neurons, shrink
from students.weights import out_axis, raw_parameter

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def hidden_units(model: PreTrainedModel) -> tuple[Units, Units]:
    """The hidden dimensions, by what makes them and by what reads them.

    Embeddings, norms, biases and the outputs of linear layers make them, the inputs of linear layers read them; what
    leads from hidden to hidden, as a pooler, does both. They are one set throughout: both stacks of T5 have the same.
    All users of a tied tensor are there, and read if one of them does: embeddings that are the head as well.

    The axes along which they lie are those that are longer in a wider model and hold no neurons, heads or ranks.

    Raises:
        ValueError: if the token embeddings are no matrix.
    """
    if not isinstance(model.get_input_embeddings(), nn.Embedding):
        raise ValueError("shape: a hidden dimension is no column of token embeddings that are no matrix")
    others = neurons(model) + heads(model) + rank_components(model)
    held = {(part.module, part.name, part.axis) for units in others for part in units.slices}
    own, wide, found = dict(model.named_modules()), _wider(model), []
    size = model.config.hidden_size
    for path, other in wide.named_modules():
        module = own[path]
        for name, parameter in other.named_parameters(recurse=False):
            shape = raw_parameter(module, name).shape
            for axis, (now, then) in enumerate(zip(shape, parameter.shape, strict=True)):
                if (now, then) == (size, wide.config.hidden_size) and (module, name, axis) not in held:
                    found.append(Slice(module, name, axis, 1))
    reading = {(id(raw_parameter(part.module, part.name)), part.axis) for part in found if _reads(part)}
    parts: dict[bool, list[Slice]] = {False: [], True: []}
    for part in found:
        parts[(id(raw_parameter(part.module, part.name)), part.axis) in reading].append(part)
    made, read = (Units("hidden", size, tuple(each), {}, model, len(each)) for each in parts.values())
    return made, read


def _reads(part: Slice) -> bool:
    return is_linear(part.module) and part.name == "weight" and part.axis != out_axis(part.module)


def _wider(model: PreTrainedModel) -> PreTrainedModel:
    """The model as it would be with more hidden dimensions, without values."""
    config = copy.deepcopy(model.config)
    if getattr(config, "original_widths", None):
        restore_widths(config)
    # One more for each head: elsewhere than in Llama and T5 the heads divide them.
    set_hidden_size(config, config.hidden_size + config.num_attention_heads)
    with torch.device("meta"):
        return type(model)(config)


def set_hidden_size(config: PretrainedConfig, size: int) -> None:
    """Write another hidden size into a config; embeddings of the same size follow (of ELECTRA, that has no projection
    between the two then), and heads keep their size where the config can say it.
    """
    fix_head_size(config)
    if getattr(config, "embedding_size", None) == config.hidden_size:
        config.embedding_size = size
    config.hidden_size = size


def config_widths(config: PretrainedConfig) -> dict[str, int]:
    """The keys that ``set_hidden_size`` changes, with what they hold."""
    joint = getattr(config, "embedding_size", None) == config.hidden_size
    return dict.fromkeys(["hidden_size", *["embedding_size"] * joint], config.hidden_size)


def restore_widths(config: PretrainedConfig) -> None:
    """Restore the widths that a model had before it was pruned, ``config.original_widths``, in its config."""
    for key, size in config.original_widths.items():
        setattr(config, key, size)
    config.original_widths = None


def shrink_hidden(model: PreTrainedModel, keep: Tensor) -> dict[str, int]:
    """Cut out, in place, the hidden dimensions that ``keep`` (bool [hidden]) leaves out; ties stay, and heads keep
    their size. Weights must be plain. Returns the widths that stood in the config, which follows.
    """
    made, read = hidden_units(model)
    users: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            users.setdefault(id(parameter), []).append((module, name))
    before = config_widths(model.config)
    shrink(made, keep)
    shrink(read, keep)
    for (module, name), *others in users.values():
        for other, key in others:
            setattr(other, key, getattr(module, name))
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    for config in configs.values():
        set_hidden_size(config, int(keep.sum()))
    return before
