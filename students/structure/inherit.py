"""What a smaller model takes from a bigger one of its family: whole blocks, or the largest parts of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.families.families import blocks, depth, family, intermediate_size
from students.structure.position_embeddings import place_entries
from students.structure.units import heads, neurons

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def inherit(teacher: PreTrainedModel, student: PreTrainedModel, layers: dict[str, list[int]]) -> list[str]:
    """Give the student the weights of the teacher's blocks ``layers`` (from 1, by stack), cut to its sizes.

    Kept are the neurons, heads and hidden dimensions (one set throughout) of the largest L2 norm. Returns the
    names of the weights that stay as they were: those of a head with another number of labels.

    Raises:
        ValueError: if the teacher has weights outside its blocks that have no place in the student.
    """
    source, own = teacher.state_dict(), student.state_dict()
    names = _teacher_names(teacher, student, layers)
    piles = tuple(f"{_pile_name(teacher, stack)}." for stack in family(teacher.config).stacks)
    lost = [name for name in source if name not in own and not name.startswith(piles)]
    if lost:
        raise ValueError(
            f"hidden: a {teacher.config.model_type} of hidden size {student.config.hidden_size} "
            f"has no place for the teacher's {', '.join(lost)}; choose another size"
        )
    entries, hidden, fresh = unit_entries(teacher, student.config) | place_entries(teacher, student.config), [], set()
    sizes = (teacher.config.hidden_size, student.config.hidden_size)
    for name in own:
        for axis, change in enumerate(zip(source[names[name]].shape, own[name].shape, strict=True)):
            # What holds no unit and yet changes is the hidden size or, in the head, the number of labels.
            if (names[name], axis) not in entries and change[0] != change[1]:
                if change == sizes:
                    hidden.append((names[name], axis))
                else:
                    fresh.add(name)
    if hidden:
        parts = [source[name].movedim(axis, 0).reshape(sizes[0], -1) for name, axis in hidden]
        entries |= dict.fromkeys(hidden, largest(parts, sizes[1]))
    for name in own.keys() - fresh:
        weight = source[names[name]]
        for axis in range(weight.dim()):
            if (names[name], axis) in entries:
                weight = weight.index_select(axis, entries[names[name], axis].to(weight.device))
        own[name] = weight
    student.load_state_dict(own)
    return sorted(fresh)


def unit_entries(teacher: PreTrainedModel, student: PretrainedConfig) -> dict[tuple[str, int], Tensor]:
    """The entries of the teacher's weights that a student keeps along axes that hold heads or neurons.

    Returns {(weight name, axis): indices}. Each block keeps its own largest units; a head that gets narrower
    keeps its leading part.
    """
    names = {id(module): name for name, module in teacher.named_modules()}
    (before, _, width), (groups, _, kept_width) = head_shape(teacher.config), head_shape(student)
    count = student.num_attention_heads if before == 1 else groups  # where all share a key, each query head is a unit
    choices = [(units, intermediate_size(student), 1, 1) for units in neurons(teacher)]
    choices += [(units, count, width, kept_width) for units in heads(teacher)]
    entries: dict[tuple[str, int], Tensor] = {}
    for units, count, before, after in choices:
        held = [part.rows(getattr(part.module, part.name), units.count) for part in units.slices]
        kept = largest(held, count)
        for part in units.slices:
            place = (f"{names[id(part.module)]}.{part.name}", part.axis)
            within = torch.arange(part.size).view(-1, before)[:, :after].flatten()
            found = (part.start + part.size * kept[:, None] + within).flatten()
            # A fused layer (GPT-2) has several slices along one axis, in their order.
            entries[place] = torch.cat([entries[place], found]) if place in entries else found
    return entries


def largest(parts: list[Tensor], count: int) -> Tensor:
    """The ``count`` units of the largest L2 norm, in order; a part is [units, numbers that belong to it]."""
    score = sum(part.detach().cpu().float().square().sum(1) for part in parts)
    return score.argsort(descending=True, stable=True)[:count].sort().values


def head_shape(config: PretrainedConfig) -> tuple[int, int, int]:
    """How attention is divided: (key-value heads, query heads that share one of them, head size)."""
    count, built = config.num_attention_heads, getattr(config, "built", None) or {}
    hidden = built.get("hidden_size", config.hidden_size)  # of a narrower model the heads keep their size
    groups = getattr(config, "num_key_value_heads", None) or count
    # Llama and T5 have a head size of their own; elsewhere the heads divide the hidden size.
    return groups, count // groups, getattr(config, "head_dim", None) or hidden // count


def repeats(model: PreTrainedModel, stack: str | None = None) -> bool:
    """Whether a block of the stack runs more than once (ALBERT)."""
    return len(set(blocks(model, stack))) < depth(model.config, stack)


def _teacher_names(teacher: PreTrainedModel, student: PreTrainedModel, layers: dict[str, list[int]]) -> dict[str, str]:
    """The name in the teacher of each weight of the student."""
    names = {name: name for name in student.state_dict()}
    known = teacher.state_dict().keys()
    for stack in layers:
        pile = f"{_pile_name(teacher, stack)}."
        for name in names:
            if name.startswith(pile) and not repeats(teacher, stack):
                index, rest = name.removeprefix(pile).split(".", 1)
                moved = f"{pile}{layers[stack][int(index)] - 1}.{rest}"
                # Only the first block of a T5 stack holds the position bias: then the name stays.
                names[name] = moved if moved in known else name
    return names


def _pile_name(model: PreTrainedModel, stack: str) -> str:
    """The name, in the whole model, of the module that holds the blocks of a stack."""
    pile = model.base_model.get_submodule(family(model.config).stacks[stack].blocks)
    return next(name for name, module in model.named_modules() if module is pile)
