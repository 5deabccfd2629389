"""Ensembles of teachers: combined outputs, and the hidden states of each teacher by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from distill.config.schema import check_identifiers
from distill.tasks.task import Task
from distill.teachers.settings import LoopTeacher, TeacherSettings
from distill.teachers.teacher import Teacher
from students.recording.model_io import model_inputs, output_logits
from students.recording.own_tokens import OwnTokens
from students.recording.signals import Signals, Site, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

Combine = Literal["mean", "confident", "task"]


@dataclass(kw_only=True)
class Teachers(TeacherSettings):
    """An ensemble of models as the teacher. A loss on layers names one of them: ``teacher: large``.

    Args:
        members: the teachers by name; the student is initialized from the first.
        weights: of their outputs, {name: weight}; 1 by default.
        combine: ``mean`` of their outputs; ``confident``, for each prediction the outputs of the most confident
            teacher; or ``task``, for each of several tasks the teacher with its name (MT-DNN-KD, Liu et al. 2019, arXiv
            1904.09482).
    """

    is_ensemble: ClassVar[bool] = True

    members: dict[str, Teacher]
    weights: dict[str, float] = field(default_factory=dict)
    combine: Combine = "mean"

    def __post_init__(self):
        if len(self.members) < 2:
            raise ValueError("members: needs two teachers or more; a single one is `teacher: NAME`")
        check_identifiers("members", self.members)
        if any(member.drop_when_matched for member in self.members.values()):
            raise ValueError("members: drop_when_matched: is for a single teacher; write `teacher: {model: NAME, ...}`")
        for name, weight in self.weights.items():
            if name not in self.members:
                raise ValueError(f"weights: there is no teacher {name!r}; there are {', '.join(self.members)}")
            if weight <= 0:
                raise ValueError(f"weights: must be above 0, not {weight} ({name})")

    @property
    def has_teacher_per_task(self) -> bool:
        """Whether each of several tasks has its own teacher."""
        return self.combine == "task"

    @property
    def is_ensemble_for_all_tasks(self) -> bool:
        """Whether all teachers read all rows."""
        return self.combine != "task"

    def trained_teachers(self) -> dict[str, Teacher]:
        return self.members

    def build_teacher(self, teachers: dict[str, LoopTeacher], task: Task) -> Ensemble:
        return Ensemble(teachers, self.member_weights(), self.combine, task)

    def evaluation_models(
        self, models: dict[str, PreTrainedModel], task: Task, own_tokens: dict[str, OwnTokens]
    ) -> dict[str, nn.Module]:
        ensemble = {"teacher": EnsembleModel(models, self.member_weights(), self.combine, task, own_tokens)}
        # A teacher of one task cannot be evaluated on all.
        members = {} if self.has_teacher_per_task else models
        return ensemble | {f"teacher {name}": model for name, model in members.items()}

    def member_weights(self) -> list[float]:
        """Return the weights in the order of the members."""
        return [self.weights.get(name, 1.0) for name in self.members]


def combine_logits(logits: list[Tensor], weights: list[float], combine: Combine = "mean") -> Tensor:
    """Combine the outputs of several teachers, [..., C] each, into [..., C].

    For distributions: the log of the weighted mean of probabilities (You et al. 2017, KDD); with ``confident`` the
    logits of the teacher with the highest probability. For single numbers: their weighted mean.
    """
    stacked = torch.stack(logits).float()
    normalized = torch.tensor(weights, device=stacked.device) / sum(weights)
    normalized = normalized.view(-1, *[1] * logits[0].ndim)
    if stacked.shape[-1] == 1:
        return (normalized * stacked).sum(0)
    log_p = stacked.log_softmax(-1)
    if combine == "mean":
        return (log_p + normalized.log()).logsumexp(0)
    most_confident = log_p.max(-1, keepdim=True).values.argmax(0, keepdim=True)
    return stacked.gather(0, most_confident.expand_as(stacked[:1]))[0]


def combine_task_logits(
    logits: list[Tensor], weights: list[float], combine: Combine, task: Task, batch: dict[str, Tensor]
) -> Tensor:
    """Combine the task's logits of several models.

    Outputs that do not belong to the batch's task, such as other tasks' heads or padding of a vocabulary, are left out.
    """
    return task.expand_logits(
        combine_logits([task.select_logits(part, batch) for part in logits], weights, combine), batch
    )


class Ensemble:
    """Runs several teachers; the stack of the teacher ``a`` is named ``a/encoder`` in sites.

    Args:
        members: the teachers by name.
        weights: of their outputs, in the same order.
        combine: how outputs are combined.
        task: of the run.
    """

    def __init__(self, members: dict[str, LoopTeacher], weights: list[float], combine: Combine, task: Task):
        self.members, self.weights, self.combine, self.task = members, weights, combine, task

    def to(self, device: torch.device) -> None:
        """Move all teachers to a device."""
        for member in self.members.values():
            member.to(device)

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """Return the signals of a batch; each teacher runs only as far as its signals need."""
        if self.combine == "task":
            return self._trace_task_teacher(batch, signals)
        traces = {}
        for name, member in self.members.items():
            if needed := member_signals(signals, name):
                traces[name] = member.trace(batch, needed)
        merged = Trace(None, {}, {}, {})
        for name, trace in traces.items():
            for kind in ("hidden", "attention", "valid", "routing"):
                for site, value in getattr(trace, kind).items():
                    stack = f"{name}/{site}" if kind == "valid" else (f"{name}/{site[0]}", site[1])
                    getattr(merged, kind)[stack] = value
        if signals.logits:
            logits = [traces[name].logits for name in self.members]
            merged.logits = combine_task_logits(logits, self.weights, self.combine, self.task, batch)
        return merged

    def _trace_task_teacher(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """Return the trace of the teacher of the batch's task, its outputs at the positions of that task."""
        name, _ = self.task.task_of(batch)
        trace = self.members[name].trace(batch, signals)
        if trace.logits is not None:
            trace.logits = self.task.expand_logits(trace.logits, batch)
        return trace


def member_signals(signals: Signals, name: str) -> Signals:
    """Return the signals of one teacher, the sites without its name, and the outputs of all."""

    def own(sites: frozenset[Site]) -> frozenset[Site]:
        split = [(stack.partition("/"), layer) for stack, layer in sites]
        return frozenset((stack, layer) for (member, _, stack), layer in split if member == name)

    return Signals(signals.logits, own(signals.hidden), own(signals.attention), own(signals.routing))


class EnsembleModel(nn.Module):
    """Several models with combined outputs as one model, for evaluation.

    Args:
        models: the teachers.
        weights: of their outputs.
        combine: how outputs are combined.
        task: of the run.
        own_tokens: by name, the inputs of models with a tokenizer of their own.
    """

    def __init__(
        self,
        models: dict[str, PreTrainedModel],
        weights: list[float],
        combine: Combine,
        task: Task,
        own_tokens: Mapping[str, OwnTokens] = MappingProxyType({}),
    ):
        super().__init__()
        self.own_tokens = dict(own_tokens)
        self.names, self.models = list(models), nn.ModuleList(models.values())
        self.weights, self.combine, self.task = weights, combine, task
        self.config, self.dtype = self.models[0].config, self.models[0].dtype

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        task: Tensor | None = None,
        own_tokens: dict[str, Tensor] | None = None,
    ) -> SequenceClassifierOutput:
        """Return the combined outputs as ``logits``."""
        from transformers.modeling_outputs import SequenceClassifierOutput  # not above: it takes seconds

        arguments = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "decoder_input_ids": decoder_input_ids,
            "decoder_attention_mask": decoder_attention_mask,
        }
        given, batch = {name: value for name, value in arguments.items() if value is not None}, {"task": task}
        given |= own_tokens or {}
        if self.combine == "task":
            name, _ = self.task.task_of(batch)
            model = self.models[self.names.index(name)]
            return SequenceClassifierOutput(
                logits=self.task.expand_logits(model(**self._inputs(name, given)).logits, batch)
            )
        models = zip(self.names, self.models, strict=True)
        logits = [output_logits(model(**self._inputs(name, given))) for name, model in models]
        return SequenceClassifierOutput(
            logits=combine_task_logits(logits, self.weights, self.combine, self.task, batch)
        )

    def _inputs(self, name: str, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the inputs of one of the models."""
        own = self.own_tokens.get(name)
        return model_inputs(self.models[self.names.index(name)], own.read(batch) if own else batch)
