"""What may be combined with what: flags that components declare, and rules over flags with their reason.

``FLAGS`` says what each flag means. ``docs/compatibility.md`` is made from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from distill.config.config import Config
from distill.experiment.components import Component
from prune_schedules.schedule import Timeline
from quant_aware.export.packed import FILE

FLAGS = {
    # tasks
    "redraws_rows": "a task that draws inputs and labels anew in each epoch",
    "augments": "a task that augments its rows",
    "predicts_tokens": "a task that predicts tokens of the vocabulary",
    "predicts_positions": "a task whose classes are positions in a text",
    "needs_teacher": "unlabelled texts",
    "is_single": "a single task",
    "is_multi_task": "several tasks",
    "has_single_rows": "a batch of one row",
    # teachers
    "is_teacher": "a teacher",
    "is_frozen": "a trained teacher",
    "caches_outputs": "a cache of a teacher's outputs",
    "is_single_teacher": "a single teacher",
    "is_ensemble": "several teachers",
    "is_ensemble_for_all_tasks": "several teachers of the same task",
    "has_teacher_per_task": "a teacher for each task",
    "changes_with_student": "a teacher that changes with the student",
    "averages_weights": "the moving average of the student",
    "can_be_matched": "a teacher that the student can match",
    # losses
    "compares_examples": "a loss that compares the examples of a batch",
    "uses_all_classes": "a loss that takes all classes as possible",
    "uses_attention": "a loss that looks at attention",
    "uses_layers": "a loss on layers",
    "has_named_teacher": "a loss that names one of several teachers",
    "look_at_teacher": "losses that all look at the teacher",
    # pruning
    "prunes": "a pruner",
    "prunes_hidden": "pruning of hidden dimensions",
    "prunes_tables": "pruning of embeddings",
    "cuts_units": "pruning of neurons, heads, hidden dimensions or ranks",
    "reads_inputs": "a pruner that looks at what layers read",
    "needs_whole_weights": "a pruner that has not been made for weights in shards",
    # quantization and export
    "groups_inputs": "quantizers that share a scale among neighbouring inputs",
    "codes_pieces": "a quantizer that gives pieces of several numbers one code",
    "codes_some_pieces": "the same for weights that `mixed` names",
    "allots_bits": "bits that are allotted to weights",
    "rounds_by_inputs": "rounding by the inputs of a layer (gptq)",
    "writes_packed": "a packed file of the weights",
    "writes_float32": "an exported file",
    "writes_onnx": "`export: onnx`",
    "saves_half": "a `save_dtype` of half precision",
    "drops_tokens": "`vocabulary: seen`",
    # the run
    "runs_teacher_blocks": "`replace`",
    "is_sharded": "`trainer.strategy: fsdp2`",
    "computes_in_half": "a `trainer.precision` that holds the student's weights in half precision, or in double",
    "shares_out_rows": "more processes than half the rows of a batch",
}
_SHARDED = "the models of this run lie in shards (strategy: fsdp2); ddp can do it"
_UNSURE = "at step {step} that is not sure (replace)"


@dataclass(frozen=True)
class Rule:
    """Two flags that do not go together.

    Args:
        flag: of the component at whose key the error stands.
        beside: of any other component.
        why: the reason; ``{it}`` and ``{other}`` are the two components, and ``key: `` before it a key of the first.
        absent: the first needs the second, and is refused where none has that flag.
        at_once: only refused at a step at which both are active.
        unless: whether the two things do go together all the same.
    """

    flag: str
    beside: str
    why: str
    absent: bool = False
    at_once: bool = False
    unless: Callable[[Any, Any], bool] = lambda thing, other: False


RULES = [
    Rule(
        "has_single_rows",
        "compares_examples",
        "batch_size: of one example {other.name}, which compares it with others, is always 0",
    ),
    Rule(
        "shares_out_rows",
        "compares_examples",
        "batch_size: of {it.thing.rows} rows, {other.name} compares examples with one another, and has one alone in "
        "{it.thing.processes} processes; it is at least {it.thing.least}",
    ),
    Rule(
        "needs_teacher",
        "is_teacher",
        "unlabelled: needs a teacher, from whose outputs the student learns on these texts",
        absent=True,
    ),
    Rule(
        "is_ensemble",
        "predicts_positions",
        "several teachers' positions in a text cannot be combined; name one teacher for this task",
    ),
    Rule(
        "uses_all_classes",
        "predicts_positions",
        "DIST, noise and smoothing would count padding where the classes are places in a text",
    ),
    Rule(
        "caches_outputs", "augments", "cache: augmented rows are new in every epoch, so their outputs cannot be reused"
    ),
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
        "teacher: {it.thing.teacher!r} names one of several, and the run has a single one",
    ),
    Rule(
        "has_named_teacher",
        "has_teacher_per_task",
        "teacher: each task has its own, {it.thing.teacher!r} is that of one",
    ),
    Rule(
        "uses_layers",
        "is_ensemble_for_all_tasks",
        "teacher: the run has several; name one of {other.name}",
        unless=lambda loss, teachers: loss.teacher in teachers.members,
    ),
    Rule(
        "runs_teacher_blocks",
        "is_frozen",
        "there is no teacher whose blocks could run in the student's place",
        absent=True,
    ),
    Rule(
        "prunes_hidden",
        "runs_teacher_blocks",
        "blocks of the teacher (replace) write to hidden dimensions that are pruned",
    ),
    Rule(
        "prunes_hidden",
        "averages_weights",
        "a moving average of the student would keep a share of hidden dimensions that are pruned, and its norms would "
        "count them",
    ),
    Rule(
        "drops_tokens",
        "predicts_tokens",
        "{other.kind} predicts tokens, and what it is judged by cannot be compared once there are fewer of them",
    ),
    Rule("saves_half", "writes_float32", "the file of {other.key} is made of float32 weights; leave one of them out"),
    Rule("writes_onnx", "writes_packed", f"{{other.thing.precision}} weights are written as {FILE}; leave it away"),
    Rule("codes_pieces", "prunes", "{it.name}: its pieces would lose single numbers to what {other.name} removes"),
    Rule(
        "codes_some_pieces",
        "prunes_tables",
        "{it.name}: its pieces would lose single numbers to what {other.name} removes",
    ),
    Rule(
        "groups_inputs",
        "cuts_units",
        "weights: per: groups of inputs would be torn where {other.thing.shape} are cut out",
    ),
    Rule(
        "look_at_teacher",
        "can_be_matched",
        "all use the teacher, which may be no better than the student; add one that does not: {{kind: Labels}}",
    ),
    Rule(
        "uses_attention",
        "runs_teacher_blocks",
        f"looks at attention, which a block has only where it runs: {_UNSURE}",
        at_once=True,
    ),
    Rule(
        "reads_inputs",
        "runs_teacher_blocks",
        f"kind: looks at what a block reads, and reads only where it runs: {_UNSURE}",
        at_once=True,
    ),
    Rule(
        "computes_in_half",
        "runs_teacher_blocks",
        "precision: the teacher's blocks are float32 (replace), not {it.name}",
    ),
    Rule("runs_teacher_blocks", "is_sharded", f"blocks of a teacher run alone, and {_SHARDED}"),
    Rule("changes_with_student", "is_sharded", f"this one changes with the student, and {_SHARDED}"),
    Rule("needs_whole_weights", "is_sharded", f"kind: {{it.kind}} wants whole weights, and {_SHARDED}"),
    Rule("prunes_hidden", "is_sharded", f"shape: hidden dimensions lie across all blocks, and {_SHARDED}"),
    Rule("allots_bits", "is_sharded", f"allot: wants whole weights, and {_SHARDED}"),
    Rule("rounds_by_inputs", "is_sharded", f"gptq: wants whole weights, and {_SHARDED}"),
]


def conflicts(components: Sequence[Component], timeline: Timeline | None = None) -> Iterator[tuple[str, str]]:
    """Yield the key and the reason of whatever does not go together, in the order of the rules.

    Args:
        components: of the run, as far as they are known.
        timeline: of the run; without it what is refused only at some steps is not looked for.
    """
    for rule in RULES:
        others = [component for component in components if component.has(rule.beside)]
        for component in (component for component in components if component.has(rule.flag)):
            if rule.absent and not others:
                yield component.at(rule.why.format(it=component))
            for other in others if not rule.absent else ():
                if rule.unless(component.thing, other.thing):
                    continue
                step = _first_step(component, other, timeline) if rule.at_once else 0
                if step is not None:
                    yield component.at(rule.why.format(it=component, other=other, step=step))


def judge(config: Config, components: Sequence[Component], timeline: Timeline | None = None) -> None:
    """Raise ConfigError at the key of the first component that does not go with another."""
    for key, why in conflicts(components, timeline):
        raise config.error(key, why)


def _first_step(one: Component, other: Component, timeline: Timeline | None) -> int | None:
    """The first step at which both count."""
    pairs = product(one.active_steps(timeline), other.active_steps(timeline)) if timeline else ()
    return min((max(a.start, b.start) for a, b in pairs if max(a.start, b.start) < min(a.stop, b.stop)), default=None)
