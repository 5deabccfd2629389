"""What a smaller model takes from a bigger one of its family: whole blocks, or the largest parts of each."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.families.families import family, intermediate_size, repeats_blocks
from students.structure.position_embeddings import position_entries
from students.structure.units import heads, neurons

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def init_from_teacher(teacher: PreTrainedModel, student: PreTrainedModel, layers: dict[str, list[int]]) -> list[str]:
    """Give the student the weights of the teacher's blocks ``layers`` (from 1, by stack), cut to its sizes.

    MaskedNorm are the neurons, heads and hidden dimensions (one set throughout) of the largest L2 norm. Returns the
    names of the weights that stay as they were: those of a head with another number of labels.

    Raises:
        ValueError: if the teacher has weights outside its blocks that have no place in the student.
    """
    source, own = teacher.state_dict(), student.state_dict()
    names = _teacher_names(teacher, student, layers)
    stacks = tuple(f"{_stack_name(teacher, stack)}." for stack in family(teacher.config).stacks)
    lost = [name for name in source if name not in own and not name.startswith(stacks)]
    if lost:
        raise ValueError(
            f"hidden: a {teacher.config.model_type} of hidden size {student.config.hidden_size} "
            f"has no place for the teacher's {', '.join(lost)}; choose another size"
        )
    if lost := _lost_names(teacher, student, layers):
        warnings.warn(f"no block of the student has a place for the teacher's {', '.join(lost)}", stacklevel=2)
    entries, hidden = unit_entries(teacher, student.config) | position_entries(teacher, student.config), []
    fresh = own.keys() - names.keys()
    sizes = (teacher.config.hidden_size, student.config.hidden_size)
    for name in names:
        for axis, change in enumerate(zip(source[names[name]].shape, own[name].shape, strict=True)):
            # What holds no unit and yet changes is the hidden size or, in the head, the number of labels.
            if (names[name], axis) not in entries and change[0] != change[1]:
                if change == sizes:
                    hidden.append((names[name], axis))
                else:
                    fresh.add(name)
    if hidden:
        parts = [source[name].movedim(axis, 0).reshape(sizes[0], -1) for name, axis in hidden]
        entries |= dict.fromkeys(hidden, largest_units(parts, sizes[1]))
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
        kept = largest_units(held, count)
        for part in units.slices:
            place = (f"{names[id(part.module)]}.{part.name}", part.axis)
            within = torch.arange(part.size).view(-1, before)[:, :after].flatten()
            found = (part.start + part.size * kept[:, None] + within).flatten()
            # A fused layer (GPT-2) has several slices along one axis, in their order.
            entries[place] = torch.cat([entries[place], found]) if place in entries else found
    return entries


def largest_units(parts: list[Tensor], count: int) -> Tensor:
    """The ``count`` units of the largest L2 norm, in order; a part is [units, numbers that belong to it]."""
    score = sum(part.detach().cpu().float().square().sum(1) for part in parts)
    return score.argsort(descending=True, stable=True)[:count].sort().values


def head_shape(config: PretrainedConfig) -> tuple[int, int, int]:
    """How attention is divided: (key-value heads, query heads that share one of them, head size)."""
    count, built = config.num_attention_heads, getattr(config, "original_widths", None) or {}
    hidden = built.get("hidden_size", config.hidden_size)  # of a narrower model the heads keep their size
    groups = getattr(config, "num_key_value_heads", None) or count
    # Llama and T5 have a head size of their own; elsewhere the heads divide the hidden size.
    return groups, count // groups, getattr(config, "head_dim", None) or hidden // count


def _teacher_names(teacher: PreTrainedModel, student: PreTrainedModel, layers: dict[str, list[int]]) -> dict[str, str]:
    """Return, for each weight of the student that the teacher has, its name in the teacher.

    A block may have weights that others have not: the first of T5 alone holds the position bias of its stack, and the
    first of ModernBERT has no norm before its attention. The student's first block takes from the teacher's first what
    the block that it is made from has not; what a later one finds nowhere is left out.
    """
    student_names, teacher_names = student.state_dict().keys(), teacher.state_dict().keys()
    names = {name: name for name in student_names}
    for stack, numbers in layers.items():
        if repeats_blocks(teacher.config, stack):
            continue
        prefix = f"{_stack_name(teacher, stack)}."
        for name in (name for name in student_names if name.startswith(prefix)):
            index, rest = name.removeprefix(prefix).split(".", 1)
            moved = f"{prefix}{numbers[int(index)] - 1}.{rest}"
            if moved in teacher_names:
                names[name] = moved
            elif int(index) > 0 or name not in teacher_names:
                del names[name]
    return names


def _lost_names(teacher: PreTrainedModel, student: PreTrainedModel, layers: dict[str, list[int]]) -> list[str]:
    """Return the names of the teacher's weights, in blocks that are taken, for which no block of the student has a
    place.
    """
    lost, own = [], student.state_dict().keys()
    for stack, numbers in layers.items():
        prefix = f"{_stack_name(teacher, stack)}."
        for name in teacher.state_dict() if not repeats_blocks(teacher.config, stack) else ():
            if name.startswith(prefix):
                index, rest = name.removeprefix(prefix).split(".", 1)
                students = [i for i, number in enumerate(numbers) if number - 1 == int(index)]
                # What the teacher's first block has alone is the student's first block's, whatever that is made from.
                students += [0] * (index == "0")
                if students and not any(f"{prefix}{i}.{rest}" in own for i in students):
                    lost.append(name)
    return lost


def _stack_name(model: PreTrainedModel, stack: str) -> str:
    """The name, in the whole model, of the module that holds the blocks of a stack."""
    stack_module = model.base_model.get_submodule(family(model.config).stacks[stack].blocks)
    return next(name for name, module in model.named_modules() if module is stack_module)
