"""The rules on what cannot be combined: pairs of flags that exclude each other; `flags.py` says what each means.

``docs/guide/compatibility.md`` is generated from this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quant_aware.export.packed import FILE

_SHARDED = "the models of this run are sharded (strategy: fsdp2); ddp can do it"
_REPLACED = "and replace may skip it at step {step}"


@dataclass(frozen=True)
class Rule:
    """Two flags that exclude each other.

    Args:
        flag: the flag of the component at whose key the error is raised.
        other_flag: the flag of another component.
        reason: the message; ``{it}`` and ``{other}`` are the components. It may begin with a field of the first.
        is_required: the first flag requires the other one instead: refused if no component has it.
        at_same_step: refused only if both are active at the same step.
        unless: called with the settings of both components; returns whether they can be combined all the same.
    """

    flag: str
    other_flag: str
    reason: str
    is_required: bool = False
    at_same_step: bool = False
    unless: Callable[[Any, Any], bool] = lambda settings, other: False


RULES = [
    Rule(
        "has_batches_of_one",
        "compares_examples",
        "batch_size: {other.name} compares the examples of a batch, and is always 0 of a single one",
    ),
    Rule(
        "has_too_few_rows",
        "compares_examples",
        "batch_size: {other.name} compares the examples of a batch, and {it.settings.rows} rows are a single one for a "
        "process of {it.settings.processes}; write {it.settings.least} or more",
    ),
    Rule(
        "needs_teacher",
        "is_teacher",
        "unlabelled: needs a teacher, from whose outputs the student learns on these texts",
        is_required=True,
    ),
    Rule("gives_vectors", "is_teacher", "learns a teacher's vectors, and the run has no teacher", is_required=True),
    Rule(
        "reads_predictions",
        "gives_vectors",
        "compares predictions, and {other.kind} gives vectors; use VectorCosine, VectorMSE or SimilarityKL",
    ),
    Rule("compares_vectors", "gives_vectors", "compares vectors; embedding and search give them", is_required=True),
    Rule(
        "is_ensemble",
        "gives_vectors",
        "the vectors of several teachers have directions of their own and cannot be combined; name one teacher",
    ),
    Rule("gives_vectors", "is_multi_task", "gives vectors, and the heads of {other.name} are slices of one layer"),
    Rule("compares_passages", "groups_passages", "compares passages, which only ranking has", is_required=True),
    Rule("caches_outputs", "groups_passages", "cache: outputs are kept by row, and a row has several passages"),
    Rule("augments", "groups_passages", "augment: the passages of a row stand one after the other"),
    Rule("groups_passages", "is_multi_task", "groups passages by query, and the rows of {other.name} are single texts"),
    Rule(
        "is_ensemble",
        "predicts_positions",
        "several teachers' positions in a text cannot be combined; name one teacher for this task",
    ),
    Rule(
        "uses_all_classes",
        "predicts_positions",
        "DIST, noise and smoothing would count padding where the classes are positions in a text",
    ),
    Rule(
        "compares_classes",
        "is_multi_label",
        "compares the classes of one distribution, and each label is a distribution of two; use Logits without top_k",
    ),
    Rule("caches_outputs", "augments", "cache: augmented rows change in every epoch, so outputs cannot be reused"),
    Rule(
        "caches_outputs",
        "redraws_rows",
        "cache: the rows of {other.kind} are new in every epoch, so their outputs cannot be reused",
    ),
    Rule(
        "has_teacher_per_task",
        "is_single",
        "combine: task needs a teacher with the name of each task, and there is only one task",
    ),
    Rule(
        "has_teacher_per_task",
        "is_multi_task",
        "combine: task needs a teacher with the name of each task; the tasks are {other.name}",
        unless=lambda teachers, task: sorted(teachers.members) == sorted(task.tasks),
    ),
    Rule(
        "has_named_teacher",
        "is_single_teacher",
        "teacher: {it.settings.teacher!r} names one of several teachers, and the run has a single one",
    ),
    Rule(
        "has_named_teacher",
        "has_teacher_per_task",
        "teacher: each task has its own, and {it.settings.teacher!r} is that of one",
    ),
    Rule(
        "uses_layers",
        "is_ensemble_for_all_tasks",
        "teacher: the run has several teachers; name one of {other.name}",
        unless=lambda loss, teachers: loss.teacher in teachers.members,
    ),
    Rule(
        "compares_tokens",
        "reads_own_tokens",
        "compares token by token, and {other.name} reads tokens of its own; losses on outputs work, and those on "
        "hidden states with pooling: mean or first",
        unless=lambda loss, own: getattr(loss, "teacher", None) not in (None, own.name),
    ),
    Rule(
        "has_recorded_outputs",
        "accepts_soft_labels",
        "one distribution or number is recorded for a text; only classification, regression and ranking can read them",
        is_required=True,
    ),
    Rule(
        "has_recorded_outputs",
        "is_multi_task",
        "its outputs are recorded for a single task, and the run has {other.name}",
    ),
    Rule(
        "has_recorded_outputs",
        "augments",
        "its outputs are recorded for the texts of the data, not for those that augmentation makes",
    ),
    Rule("uses_layers", "has_recorded_outputs", "compares layers, and outputs alone are recorded of the teacher"),
    Rule(
        "runs_teacher_blocks",
        "is_frozen",
        "there is no teacher whose blocks could replace the student's",
        is_required=True,
    ),
    Rule(
        "runs_teacher_blocks",
        "reads_own_tokens",
        "blocks of the teacher would run on the student's tokens, and {other.name} reads tokens of its own",
    ),
    Rule(
        "prunes_hidden",
        "runs_teacher_blocks",
        "blocks of the teacher (replace) write to hidden dimensions that are pruned",
    ),
    Rule(
        "prunes_hidden",
        "averages_weights",
        "a moving average of the student keeps part of pruned hidden dimensions, and its norms would count them",
    ),
    Rule("uses_routing", "prunes_experts", "compares all experts, of which {other.name} removes some"),
    Rule("prunes_experts", "averages_weights", "a moving average of the student would route tokens to pruned experts"),
    Rule(
        "drops_tokens",
        "predicts_tokens",
        "{other.kind} predicts tokens, and its metrics cannot be compared across vocabularies",
    ),
    Rule("saves_half", "writes_float32", "the file of {other.key} needs float32 weights; leave one of them out"),
    Rule("writes_onnx", "writes_packed", f"{{other.settings.precision}} weights are written as {FILE}; leave it out"),
    Rule("codes_vectors", "prunes", "{it.name}: has one code for several weights, of which {other.name} removes some"),
    Rule(
        "codes_some_vectors",
        "prunes_embeddings",
        "{it.name}: has one code for several weights, of which {other.name} removes some",
    ),
    Rule(
        "groups_inputs",
        "cuts_units",
        "weights: granularity: cutting {other.settings.shape} would break up groups of inputs",
    ),
    Rule(
        "all_need_teacher",
        "can_be_matched",
        "all use the teacher, which may be no better than the student; add one that does not: {{kind: Labels}}",
    ),
    Rule(
        "uses_attention",
        "runs_teacher_blocks",
        f"needs attention, which a block has only where it runs, {_REPLACED}",
        at_same_step=True,
    ),
    Rule(
        "reads_inputs",
        "runs_teacher_blocks",
        f"kind: needs the inputs of a block, which it has only where it runs, {_REPLACED}",
        at_same_step=True,
    ),
    Rule(
        "computes_in_half",
        "runs_teacher_blocks",
        "precision: the teacher's blocks are float32 (replace), not {it.name}",
    ),
    Rule("runs_teacher_blocks", "is_sharded", f"single blocks of the teacher cannot run, as {_SHARDED}"),
    Rule("changes_with_student", "is_sharded", f"it changes with the student, and {_SHARDED}"),
    Rule("needs_full_weights", "is_sharded", f"kind: {{it.kind}} needs full weights, and {_SHARDED}"),
    Rule("prunes_hidden", "is_sharded", f"shape: hidden dimensions run through all blocks, and {_SHARDED}"),
    Rule("prunes_experts", "is_sharded", f"shape: a router masks its experts in full, and {_SHARDED}"),
    Rule("allocates_bits", "is_sharded", f"bit_allocation: needs full weights, and {_SHARDED}"),
    Rule("uses_gptq", "is_sharded", f"gptq: needs full weights, and {_SHARDED}"),
]
