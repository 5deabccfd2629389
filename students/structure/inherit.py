"""Initialize a smaller model from a bigger one of its family: from whole blocks, or the largest units of each."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import blocks, family, intermediate_size, repeats_blocks
from students.families.parts import AttentionParts
from students.structure.position_embeddings import position_entries
from students.structure.units import heads, neurons

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def init_from_teacher(teacher: PreTrainedModel, student: PreTrainedModel, layers: dict[str, list[int]]) -> list[str]:
    """Copy the weights of the teacher's blocks into the student, cut to its sizes.

    The student keeps the neurons, heads and hidden dimensions (one set in the whole model) of the largest L2 norm.

    Args:
        teacher: the bigger model.
        student: of the same family, changed in place.
        layers: by stack, for each of the student's blocks the number of the teacher's block, from 1.

    Returns:
        The names of the weights that stay as they were: those of a head with another number of labels.

    Raises:
        ValueError: if the teacher has weights outside its blocks that the student has not, or a block would run with
            other settings than the teacher's.
    """
    source, state = teacher.state_dict(), student.state_dict()
    names = _teacher_names(teacher, student, layers)
    stacks = tuple(f"{_stack_name(teacher, stack)}." for stack in family(teacher.config).stacks)
    lost = [name for name in source if name not in state and not name.startswith(stacks)]
    if lost:
        raise ValueError(
            f"hidden: a {teacher.config.model_type} of hidden size {student.config.hidden_size} "
            f"has no place for the teacher's {', '.join(lost)}; choose another size"
        )
    _check_settings(teacher, student, layers)
    if lost := _lost_names(teacher, student, layers):
        warnings.warn(f"no block of the student has a place for the teacher's {', '.join(lost)}", stacklevel=2)
    entries, hidden = unit_entries(teacher, student.config) | position_entries(teacher, student.config), []
    new = state.keys() - names.keys()
    sizes = (teacher.config.hidden_size, student.config.hidden_size)
    for name in names:
        for axis, change in enumerate(zip(source[names[name]].shape, state[name].shape, strict=True)):
            # An axis without units that changes is the hidden size or, in the head, the number of labels.
            if (names[name], axis) not in entries and change[0] != change[1]:
                if change == sizes:
                    hidden.append((names[name], axis))
                else:
                    new.add(name)
    if hidden:
        parts = [source[name].movedim(axis, 0).reshape(sizes[0], -1) for name, axis in hidden]
        entries |= dict.fromkeys(hidden, largest_units(parts, sizes[1]))
    for name in state.keys() - new:
        weight = source[names[name]]
        for axis in range(weight.dim()):
            if (names[name], axis) in entries:
                weight = weight.index_select(axis, entries[names[name], axis].to(weight.device))
        state[name] = weight
    student.load_state_dict(state)
    return sorted(new)


def unit_entries(teacher: PreTrainedModel, student: PretrainedConfig) -> dict[tuple[str, int], Tensor]:
    """Return the entries of the teacher's weights that a student keeps along the axes of heads and neurons.

    Each block keeps its own largest units; a head that gets narrower keeps its leading part.

    Returns:
        {(weight name, axis): indices}.
    """
    if family(student).level != "structure":  # of the same widths, as ``Transformer`` has checked
        return {}
    names = {id(module): name for name, module in teacher.named_modules()}
    (teacher_groups, _, teacher_size), (groups, _, size) = head_shape(teacher.config), head_shape(student)
    num_units = student.num_attention_heads if teacher_groups == 1 else groups  # multi-query: a unit is a query head
    choices = [(units, intermediate_size(student, units.name.split(".")[0]), 1, 1) for units in neurons(teacher)]
    choices += [(units, num_units, teacher_size, size) for units in heads(teacher)]
    entries: dict[tuple[str, int], Tensor] = {}
    for units, count, before, after in choices:
        weights = [part.rows(getattr(part.module, part.name), units.count) for part in units.slices]
        chosen = largest_units(weights, count)
        for part in units.slices:
            key = (f"{names[id(part.module)]}.{part.name}", part.axis)
            within = torch.arange(part.size).view(-1, before)[:, :after].flatten()
            index = (part.start + part.size * chosen[:, None] + within).flatten()
            # A fused layer (GPT-2) has several slices along one axis, in their order.
            entries[key] = torch.cat([entries[key], index]) if key in entries else index
    return entries


def largest_units(parts: list[Tensor], count: int) -> Tensor:
    """Return the indices of the ``count`` units of the largest L2 norm, in order; a part is [units, entries]."""
    score = sum(part.detach().cpu().float().square().sum(1) for part in parts)
    return score.argsort(descending=True, stable=True)[:count].sort().values


def head_shape(config: PretrainedConfig) -> tuple[int, int, int]:
    """Return the shape of attention: (key-value heads, query heads that share one of them, head size)."""
    count, original = config.num_attention_heads, getattr(config, "original_widths", None) or {}
    hidden = original.get("hidden_size", config.hidden_size)  # heads keep their size when hidden dimensions are cut
    groups = getattr(config, "num_key_value_heads", None) or count
    # Llama and T5 have a key for the head size; in other families the heads divide the hidden size.
    return groups, count // groups, getattr(config, "head_dim", None) or hidden // count


def check_heads(teacher: PretrainedConfig, student: PretrainedConfig) -> None:
    """Check that a student does not change what its family's attention cannot: its number of heads, or its width.

    Raises:
        ValueError: naming the field.
    """
    name, advice = teacher.model_type, "or set weights: random"
    sites = [site for stack in family(teacher).stacks.values() for site in stack.attention.values()]
    is_known = all(isinstance(site, AttentionParts) for site in sites)
    if teacher.num_attention_heads != student.num_attention_heads and (family(teacher).has_fixed_heads or not is_known):
        reason = "bound together, as by one position bias" if is_known else "not known"
        count = teacher.num_attention_heads
        raise ValueError(f"heads: those of a {name} are {reason}, so its {count} heads stay; leave heads out, {advice}")
    if teacher.hidden_size != student.hidden_size and not is_known:
        raise ValueError(
            f"hidden: the layers of attention of a {name} are not known, so it stays; leave hidden out, {advice}"
        )


def _teacher_names(teacher: PreTrainedModel, student: PreTrainedModel, layers: dict[str, list[int]]) -> dict[str, str]:
    """Return, for each weight of the student that the teacher has, its name in the teacher.

    A block may have weights that others lack: only the first of T5 holds the position bias of its stack, and the first
    of ModernBERT has no norm before its attention. For the student's first block, weights that its source block lacks
    come from the teacher's first block; for a later block they are left out.
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
    """Return the names of the weights, in the teacher's blocks that are taken, that no block of the student has."""
    lost, student_names = [], student.state_dict().keys()
    for stack, numbers in layers.items():
        prefix = f"{_stack_name(teacher, stack)}."
        for name in teacher.state_dict() if not repeats_blocks(teacher.config, stack) else ():
            if name.startswith(prefix):
                index, rest = name.removeprefix(prefix).split(".", 1)
                students = [i for i, number in enumerate(numbers) if number - 1 == int(index)]
                # Weights that only the teacher's first block has go to the student's first block, whatever its source.
                students += [0] * (index == "0")
                if students and not any(f"{prefix}{i}.{rest}" in student_names for i in students):
                    lost.append(name)
    return lost


def _check_settings(teacher: PreTrainedModel, student: PreTrainedModel, layers: dict[str, list[int]]) -> None:
    """Check that a block of the student's runs with the settings of the teacher's block: a window, a kind of attention.

    Settings are the numbers and names that its modules hold. A config may tell them by the index of the block, in a way
    that does not follow when blocks are left out.

    Raises:
        ValueError: at the first that differs.
    """
    for stack, numbers in layers.items():
        for i, (block, number) in enumerate(zip(blocks(student, stack), numbers, strict=True)):
            source = blocks(teacher, stack)[number - 1]
            if [p.shape for p in block.parameters()] != [p.shape for p in source.parameters()]:
                continue  # of other sizes, which are settings too
            before, after = _settings(source), _settings(block)
            alike = (
                (number - 1, i),
                (len(blocks(teacher, stack)), len(numbers)),
            )  # the index of the block, and the depth
            for key in before.keys() & after.keys():
                if before[key] != after[key] and (before[key], after[key]) not in alike:
                    raise ValueError(
                        f"layers: block {i + 1} of the student would run with {key}: {after[key]!r}, and the teacher's "
                        f"block {number}, of which it is made, has {before[key]!r}; choose other teacher_layers"
                    )


def _settings(block: nn.Module) -> dict[str, int | float | str]:
    """Return by path the numbers and names that the modules of a block hold, but for dropout, which a student sets."""
    return {
        f"{path}.{key}".removeprefix("."): value
        for path, module in block.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, int | float | str) and not isinstance(value, bool) and "drop" not in f"{path}.{key}"
    }


def _stack_name(model: PreTrainedModel, stack: str) -> str:
    """Return the name, in the whole model, of the module that holds the blocks of a stack."""
    stack_module = model.base_model.get_submodule(family(model.config).stacks[stack].blocks)
    return next(name for name, module in model.named_modules() if module is stack_module)
