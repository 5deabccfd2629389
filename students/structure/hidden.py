"""The hidden dimensions of a model: find their slices of weights, from embeddings to head, and cut them out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import family, fix_head_size
from students.families.linear import is_linear
from students.structure.factored import rank_components
from students.structure.units import Slice, Units, heads, neurons, shrink
from students.weights import out_axis, raw_parameter

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def hidden_units(model: PreTrainedModel) -> tuple[Units, Units]:
    """Return the hidden dimensions twice: with the slices that write them, and with those that read them.

    Embeddings, norms, biases and the outputs of linear layers write them, the inputs of linear layers read them; a
    layer from hidden to hidden, as a pooler, does both. They are one set in the whole model, with both stacks of T5.
    All users of a tied tensor are listed, as reading if one of them does (embeddings tied to the LM head).

    Their axes are those that are longer in a wider model and hold no neurons, heads or ranks.

    Raises:
        ValueError: if the token embeddings are no matrix.
    """
    if not isinstance(model.get_input_embeddings(), nn.Embedding):
        raise ValueError("shape: hidden dimensions cannot be pruned, since the token embeddings are no matrix")
    other_units = neurons(model) + heads(model) + rank_components(model)
    other_axes = {(part.module, part.name, part.axis) for units in other_units for part in units.slices}
    modules, wide, slices = dict(model.named_modules()), _wider(model), []
    size = model.config.hidden_size
    for path, wide_module in wide.named_modules():
        module = modules[path]
        for name, parameter in wide_module.named_parameters(recurse=False):
            shape = raw_parameter(module, name).shape
            for axis, (length, wide_length) in enumerate(zip(shape, parameter.shape, strict=True)):
                if (length, wide_length) == (size, wide.config.hidden_size) and (module, name, axis) not in other_axes:
                    slices.append(Slice(module, name, axis, 1))
    reading = {(id(raw_parameter(part.module, part.name)), part.axis) for part in slices if _is_input(part)}
    by_reading: dict[bool, list[Slice]] = {False: [], True: []}
    for part in slices:
        by_reading[(id(raw_parameter(part.module, part.name)), part.axis) in reading].append(part)
    written, read = (Units("hidden", size, tuple(parts), {}, model, len(parts)) for parts in by_reading.values())
    return written, read


def _is_input(part: Slice) -> bool:
    if is_linear(part.module):
        return part.name == "weight" and part.axis != out_axis(part.module)
    # Of other matrices, as those of experts and their routers, torch's order is assumed: inputs last.
    last = raw_parameter(part.module, part.name).ndim - 1
    return part.axis == last > 0 and not isinstance(part.module, nn.Embedding)


def _wider(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model with more hidden dimensions, on the meta device."""
    config = copy.deepcopy(model.config)
    if getattr(config, "original_widths", None):
        restore_widths(config)
    # one more for each head: the heads divide the hidden size in most families
    set_hidden_size(config, config.hidden_size + config.num_attention_heads)
    try:
        with torch.device("meta"):
            return type(model)(type(config).from_dict(config.to_dict()))
    except Exception as error:  # whatever its own code says of sizes that do not go together
        reason = " ".join(str(error).split())
        raise ValueError(f"shape: there is no {config.model_type} of another hidden size: {reason}") from error


def _width_attributes(model: PreTrainedModel) -> list[tuple[nn.Module, str]]:
    """Return the attributes of modules that hold the hidden size, as those of experts that reshape by it.

    Those of attentions are the size of all heads, which stays, and whole models scale by theirs (T5).
    """
    wide, modules, size = _wider(model), dict(model.named_modules()), model.config.hidden_size
    owners = {units.owner for units in heads(model)}
    return [
        (modules[path], key)
        for path, wide_module in wide.named_modules()
        for key, value in vars(wide_module).items()
        if type(value) is int and value == wide.config.hidden_size and getattr(modules[path], key) == size
        if modules[path] not in owners and not hasattr(wide_module, "base_model_prefix")
    ]


def set_hidden_size(config: PretrainedConfig, size: int) -> None:
    """Write another hidden size into a config.

    The family's ``joint_widths`` that equal it follow (ELECTRA's embedding size, which has no projection then). Heads
    keep their size if there is a key for it in the config.
    """
    fix_head_size(config)
    for key in config_widths(config):
        setattr(config, key, size)


def config_widths(config: PretrainedConfig) -> dict[str, int]:
    """Return the keys that ``set_hidden_size`` changes, with their values."""
    joint = [key for key in family(config).joint_widths if getattr(config, key) == config.hidden_size]
    return dict.fromkeys(["hidden_size", *joint], config.hidden_size)


def restore_widths(config: PretrainedConfig) -> None:
    """Restore the widths that a model had before it was pruned, ``config.original_widths``, in its config."""
    for key, size in config.original_widths.items():
        setattr(config, key, size)
    config.original_widths = None


def shrink_hidden(model: PreTrainedModel, keep: Tensor) -> dict[str, int]:
    """Cut out, in place, the hidden dimensions that are not in ``keep``, and adapt the config.

    Ties stay, and heads keep their size. Weights must have no transforms (``weights.fold``).

    Args:
        model: of a supported family.
        keep: bool [hidden].

    Returns:
        The widths of the config before, for ``original_widths``.
    """
    written, read = hidden_units(model)
    users: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            users.setdefault(id(parameter), []).append((module, name))
    before, attributes = config_widths(model.config), _width_attributes(model)
    shrink(written, keep)
    shrink(read, keep)
    for (module, name), *others in users.values():
        for other, key in others:
            setattr(other, key, getattr(module, name))
    configs = {}
    for module in model.modules():
        if hasattr(module, "config") and not any(True for _ in module.parameters()):
            module.config = copy.deepcopy(module.config)  # rotary embeddings take the size of a head from it
        elif hasattr(module, "config"):
            configs[id(module.config)] = module.config
    for config in configs.values():
        set_hidden_size(config, int(keep.sum()))
    for module, key in attributes:
        setattr(module, key, int(keep.sum()))
    return before
