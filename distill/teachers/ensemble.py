"""Several teachers as one: their outputs together, the hidden states of each by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from distill.config.schema import check_names
from distill.tasks.task import Task
from distill.teachers.cache import CachedTeacher
from distill.teachers.teacher import FrozenTeacher, Teacher
from students.recording.model_io import model_inputs, output_logits
from students.recording.signals import Signals, Site, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

Choose = Literal["mean", "confident", "task"]


@dataclass(kw_only=True)
class Teachers:
    """Several models that are imitated together. A loss on layers names the one it looks at: ``teacher: large``.

    Args:
        members: the teachers by name; the student is cut from the first.
        weights: of their outputs, {name: weight}; 1 where none is given.
        choose: the ``mean`` of their outputs, or for each prediction those of the most ``confident``; or, of several
            tasks, for each its own: members are called as the tasks are (MT-DNN-KD, Liu et al. 2019, arXiv 1904.09482).
    """

    is_combined: ClassVar[bool] = True

    members: dict[str, Teacher]
    weights: dict[str, float] = field(default_factory=dict)
    choose: Choose = "mean"

    def __post_init__(self):
        if len(self.members) < 2:
            raise ValueError("members: name two teachers or more; a single one is `teacher: NAME`")
        check_names("members", self.members)
        if any(member.drop_when_matched for member in self.members.values()):
            raise ValueError("members: drop_when_matched: is for a single teacher; give its name alone")
        for name, weight in self.weights.items():
            if name not in self.members:
                raise ValueError(f"weights: there is no teacher {name!r}; there are {', '.join(self.members)}")
            if weight <= 0:
                raise ValueError(f"weights: must be above 0, not {weight} ({name})")

    @property
    def has_teacher_per_task(self) -> bool:
        """Whether each of several tasks has its own."""
        return self.choose == "task"

    @property
    def has_members_on_all_tasks(self) -> bool:
        """Whether all look at all rows."""
        return self.choose != "task"

    def shares(self) -> list[float]:
        """The weights in the order of the members."""
        return [self.weights.get(name, 1.0) for name in self.members]


def combine_logits(logits: list[Tensor], weights: list[float], choose: Choose = "mean") -> Tensor:
    """The outputs of several teachers as one, [..., C] of [..., C] each.

    Of distributions, the log of the mean of the probabilities, weighted (You et al. 2017, KDD); or, with ``confident``,
    the logits of whichever is surest of its likeliest class. Of single numbers, their weighted mean.
    """
    stacked = torch.stack(logits).float()
    shares = torch.tensor(weights, device=stacked.device) / sum(weights)
    shares = shares.view(-1, *[1] * logits[0].ndim)
    if stacked.shape[-1] == 1:
        return (shares * stacked).sum(0)
    log_p = stacked.log_softmax(-1)
    if choose == "mean":
        return (log_p + shares.log()).logsumexp(0)
    surest = log_p.max(-1, keepdim=True).values.argmax(0, keepdim=True)
    return stacked.gather(0, surest.expand_as(stacked[:1]))[0]


def combine_task_logits(
    logits: list[Tensor], weights: list[float], choose: Choose, task: Task, batch: dict[str, Tensor]
) -> Tensor:
    """The same of what the models give, where the task takes it from them: what is no output of this batch, as another
    task's head or a vocabulary's padding, has no share in a distribution.
    """
    return task.widen(combine_logits([task.select(part, batch) for part in logits], weights, choose), batch)


class Ensemble:
    """Runs several teachers; a site of the teacher ``a`` has the stack ``a/encoder``.

    Args:
        members: the teachers by name.
        weights: of their outputs, in the same order.
        choose: how the outputs become one.
        task: of the run.
    """

    def __init__(
        self, members: dict[str, FrozenTeacher | CachedTeacher], weights: list[float], choose: Choose, task: Task
    ):
        self.members, self.weights, self.choose, self.task = members, weights, choose, task

    def to(self, device: torch.device) -> None:
        """Moves all of them."""
        for member in self.members.values():
            member.to(device)

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """The signals of one batch, each teacher run only as far as its part asks."""
        if self.choose == "task":
            return self._own_teacher(batch, signals)
        traces = {}
        for name, member in self.members.items():
            asked = replace(signals, hidden=own(signals.hidden, name), attention=own(signals.attention, name))
            if asked:
                traces[name] = member.trace(batch, asked)
        merged = Trace(None, {}, {}, {})
        for name, trace in traces.items():
            for kind in ("hidden", "attention", "valid"):
                for site, value in getattr(trace, kind).items():
                    stack = f"{name}/{site}" if kind == "valid" else (f"{name}/{site[0]}", site[1])
                    getattr(merged, kind)[stack] = value
        if signals.logits:
            logits = [traces[name].logits for name in self.members]
            merged.logits = combine_task_logits(logits, self.weights, self.choose, self.task, batch)
        return merged

    def _own_teacher(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """Of the task that the batch belongs to; its outputs stand where the student's for that task do."""
        name, _ = self.task.of(batch)
        trace = self.members[name].trace(batch, signals)
        if trace.logits is not None:
            trace.logits = self.task.widen(trace.logits, batch)
        return trace


def build_teacher(
    voices: dict[str, FrozenTeacher | CachedTeacher], named: Teacher | Teachers | None, task: Task
) -> FrozenTeacher | CachedTeacher | Ensemble | None:
    """What the loop asks: nobody, the one teacher, or several as one."""
    if isinstance(named, Teachers):
        return Ensemble(voices, named.shares(), named.choose, task)
    return voices.get("teacher")


def own(sites: frozenset[Site], name: str) -> frozenset[Site]:
    """The sites of one teacher, without its name."""
    split = [(stack.partition("/"), layer) for stack, layer in sites]
    return frozenset((stack, layer) for (member, _, stack), layer in split if member == name)


class Joint(nn.Module):
    """Several models and their outputs together as one model, to be measured.

    Args:
        models: the teachers.
        weights: of their outputs.
        choose: how the outputs become one.
        run: the task of the run.
    """

    def __init__(self, models: dict[str, PreTrainedModel], weights: list[float], choose: Choose, run: Task):
        super().__init__()
        self.names, self.models = list(models), nn.ModuleList(models.values())
        self.weights, self.choose, self.run = weights, choose, run
        self.config, self.dtype = self.models[0].config, self.models[0].dtype

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        task: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """The outputs together, as ``logits``."""
        from transformers.modeling_outputs import SequenceClassifierOutput  # not above: it takes seconds

        named = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "decoder_input_ids": decoder_input_ids,
            "decoder_attention_mask": decoder_attention_mask,
        }
        given, batch = {name: value for name, value in named.items() if value is not None}, {"task": task}
        if self.choose == "task":
            name, _ = self.run.of(batch)
            model = self.models[self.names.index(name)]
            return SequenceClassifierOutput(logits=self.run.widen(model(**model_inputs(model, given)).logits, batch))
        logits = [output_logits(model(**model_inputs(model, given))) for model in self.models]
        return SequenceClassifierOutput(logits=combine_task_logits(logits, self.weights, self.choose, self.run, batch))

    def set_attn_implementation(self, name: str) -> None:
        """Of all models."""
        for model in self.models:
            model.set_attn_implementation(name)
