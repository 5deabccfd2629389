"""A student of the teacher's own family: fewer or narrower blocks, initialized from the teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from students.families.families import (
    depth,
    family,
    intermediate_size,
    is_compact,
    own_kind,
    repeats_blocks,
    require,
)
from students.families.layer_lists import select_layers
from students.families.layers import evenly_spaced_layer
from students.forms.compatibility import check_forms
from students.forms.form import check_sizes
from students.kinds.dropout import check_dropout, set_dropout
from students.kinds.student import (
    Student,
    copy_generation_config,
    set_task,
    warn_newly_initialized,
)
from students.structure.hidden import set_hidden_size
from students.structure.inherit import check_heads, head_shape, init_from_teacher
from students.structure.merged_experts import check_experts, reduce_experts
from students.structure.position_embeddings import check_max_positions, set_max_positions

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from students.loading.auto_class import AutoClass


@dataclass(kw_only=True)
class Transformer(Student):
    """A smaller model of the teacher's family with its head; sizes default to the teacher's.

    With ``weights: teacher`` it is initialized from the blocks ``teacher_layers``, and keeps the hidden dimensions (one
    set in the whole model), neurons and heads of the largest L2 norm. Heads that get narrower keep their leading part;
    Llama and T5 keep their head size; heads that share a key stay together. With ``weights: random`` it may be deeper
    or wider than the teacher.

    Args:
        layers: number of blocks.
        hidden: hidden size.
        heads: number of attention heads.
        intermediate: number of neurons of a feed-forward.
        weights: whether they are initialized from the teacher or at random.
        teacher_layers: the teacher's blocks to initialize from: evenly spaced, the bottom or top ones, or their numbers
            from 1, one for each block of the student, the same in both stacks of T5.
        max_position_embeddings: maximum number of tokens; learned position embeddings are repeated to this length.
        experts: number of experts of a block of a mixture of experts: those to which most tokens of 16 batches are
            sent, each counted with its weight.
        merge_experts: whether each kept expert becomes the mean, weighted by these tokens, of itself and those of the
            others whose router is most like its own (near MC-SMoE, Li et al. 2023, arXiv 2310.01334).
        dropout: every dropout probability of the model; by default as in the teacher's config.
        tokenizer: a hub name or folder whose tokenizer and vocabulary the student has; each token starts as the mean of
            the teacher's tokens for its text, with ``weights: teacher``. By default the teacher's.

    Raises:
        ValueError: if a field is wrong for every teacher.
    """

    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    intermediate: int | None = None
    weights: Literal["teacher", "random"] = "teacher"
    teacher_layers: Literal["even", "bottom", "top"] | list[int] = "even"
    max_position_embeddings: int | None = None
    dropout: float | None = None
    tokenizer: str | None = None
    experts: int | None = None
    merge_experts: bool = False

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        check_sizes(self, "layers", "hidden", "heads", "intermediate", "experts", "max_position_embeddings")
        if self.weights not in ("teacher", "random"):
            raise ValueError(f"weights: 'teacher' or 'random', not {self.weights!r}")
        if self.hidden is not None and self.heads is not None and self.hidden % self.heads:
            raise ValueError(f"heads: {self.heads} heads do not divide a hidden size of {self.hidden}")
        if self.teacher_layers != "even" and self.weights == "random":
            raise ValueError("teacher_layers: no block of the teacher is used with weights: random")
        if isinstance(self.teacher_layers, list):
            count = len(self.teacher_layers)
            if count == 0 or self.layers not in (None, count):
                raise ValueError(f"teacher_layers: names {count} blocks, not {self.layers or 'one or more'}")

    def check(self, teacher: PretrainedConfig | None) -> None:
        if teacher is None:
            raise ValueError("a Transformer student is cut from a teacher: name one, or name a model")
        if is_compact(teacher):
            raise ValueError(
                "a Transformer student cannot be cut from a compact teacher; name the model it was made from"
            )
        if own := own_kind(teacher):
            raise ValueError(f"a Transformer student cannot be cut from a {own}; try LSTM, GRU or Static")
        if self.max_position_embeddings:
            check_max_positions(teacher)
        check_experts(teacher, self.experts, self.merge_experts, self.intermediate, self.weights)
        if not self._has_widths(teacher):
            if self.weights == "teacher":
                self._check_blocks(teacher)
            check_forms(self.forms, teacher)
            return
        student = self._config(teacher)
        hidden, heads = student.hidden_size, student.num_attention_heads
        # Only if the teacher meets it: flan-t5-small has 6 heads and 512 dimensions.
        if hidden % heads and teacher.hidden_size % teacher.num_attention_heads == 0:
            raise ValueError(f"heads: {heads} heads do not divide a hidden size of {hidden}")
        groups, shared, _ = head_shape(teacher)
        if groups > 1 and heads % shared:
            raise ValueError(f"heads: {heads} is no multiple of {shared}, the heads that share a key")
        if self.weights == "teacher":
            self._check_blocks(teacher)
            self._check_widths(teacher, student)
        check_forms(self.forms, student)

    @property
    def is_trained(self) -> bool:
        return self.weights == "teacher"

    def build_base(
        self,
        teacher: PreTrainedModel | None,
        id2label: dict[int, str] | None,
        problem_type: str | None,
        head: AutoClass | None,
    ) -> PreTrainedModel:
        self.check(None if teacher is None else teacher.config)
        config = self._config(teacher.config)
        set_task(config, id2label, problem_type)
        set_dropout(config, self.dropout)
        student = type(teacher)(config)
        copy_generation_config(student, teacher)
        if self.weights == "teacher":
            if self.teacher_layers != "even" and repeats_blocks(teacher.config):
                raise ValueError("teacher_layers: the teacher runs one block many times, there is no choice")
            missing = init_from_teacher(teacher, student, self._source_blocks(teacher.config))
            warn_newly_initialized("the teacher", missing)
        if self.tokenizer:
            from students.tokenizer.transfer import change_vocabulary  # not above: it needs transformers

            change_vocabulary(student, self.tokenizer, teacher.name_or_path if self.weights == "teacher" else None)
        return student

    def adapt(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]]) -> None:
        """Reduce the experts."""
        if self.experts:
            from students.models.record import record_sizes  # not above: a config is read without transformers

            reduce_experts(student, self.experts, self.merge_experts, batches if self.is_trained else ())
            record_sizes(student)

    def _config(self, teacher: PretrainedConfig) -> PretrainedConfig:
        """Return the student's config, with the teacher's labels."""
        config, facts = copy.deepcopy(teacher), family(teacher)
        select_layers(config, self._source_blocks(teacher))
        config.dtype = torch.float32
        if not self._has_widths(teacher):
            return config
        set_hidden_size(config, self.hidden or teacher.hidden_size)
        for name, stack in facts.stacks.items():
            if stack.intermediate:
                setattr(config, stack.intermediate, self.intermediate or intermediate_size(teacher, name))
            elif self.intermediate:
                raise ValueError(f"intermediate: a {teacher.model_type} always has four times its hidden size")
            setattr(config, stack.heads, self.heads or getattr(teacher, stack.heads))
        groups, shared, _ = head_shape(teacher)
        if getattr(teacher, "num_key_value_heads", None):
            config.num_key_value_heads = 1 if groups == 1 else config.num_attention_heads // shared
        if self.max_position_embeddings:
            set_max_positions(config, self.max_position_embeddings)
        return config

    def _has_widths(self, teacher: PretrainedConfig) -> bool:
        """Return whether the widths of the teacher's family are known.

        Raises:
            ValueError: if they are not and one is set, or not even the blocks are known.
        """
        require(teacher, "hidden")
        for key in ("hidden", "heads", "intermediate"):
            if getattr(self, key) is not None:
                require(teacher, "structure", key)
        return family(teacher).level == "structure"

    def _source_blocks(self, teacher: PretrainedConfig) -> dict[str, list[int]]:
        """Return by stack the numbers, from 1, of the teacher's blocks to initialize from."""
        return {name: self._block_numbers(depth(teacher, name)) for name in family(teacher).stacks}

    def _block_numbers(self, teacher_depth: int) -> list[int]:
        if isinstance(self.teacher_layers, list):
            return self.teacher_layers
        count = self.layers or teacher_depth
        if self.teacher_layers == "even":
            return [evenly_spaced_layer(i, count, teacher_depth) for i in range(1, count + 1)]
        first = 0 if self.teacher_layers == "bottom" else teacher_depth - count
        return [first + i for i in range(1, count + 1)]

    def _check_blocks(self, teacher: PretrainedConfig) -> None:
        for name in family(teacher).stacks:
            count = depth(teacher, name)
            is_list = isinstance(self.teacher_layers, list)
            if is_list and not 1 <= min(self.teacher_layers) <= max(self.teacher_layers) <= count:
                raise ValueError(
                    f"teacher_layers: the teacher has blocks 1 to {count}, "
                    f"not {', '.join(map(str, self.teacher_layers))}"
                )
            if not is_list and self.layers is not None and self.layers > count:
                raise ValueError(
                    f"layers: the teacher has {count} blocks, not {self.layers}; deeper needs "
                    "weights: random, or teacher_layers that name a block twice"
                )

    def _check_widths(self, teacher: PretrainedConfig, student: PretrainedConfig) -> None:
        sizes = {
            "hidden": (teacher.hidden_size, student.hidden_size),
            "heads": (teacher.num_attention_heads, student.num_attention_heads),
            "intermediate": (intermediate_size(teacher), intermediate_size(student)),
        }
        for name, (before, after) in sizes.items():
            if after > before:
                raise ValueError(
                    f"{name}: the teacher has {before}, not {after}; a wider student needs weights: random"
                )
        before, after = head_shape(teacher)[2], head_shape(student)[2]
        if after > before:
            raise ValueError(
                f"heads: {sizes['heads'][1]} heads in a hidden size of {sizes['hidden'][1]} are "
                f"{after} wide, the teacher's {before}; keep more heads, or set weights: random"
            )
        check_heads(teacher, student)
