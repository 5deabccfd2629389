"""A teacher: a frozen model in eval mode, in its stored precision, outside the trained module."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from distill.teachers.settings import TeacherSettings
from students.kinds.student import resolve
from students.loading.adapters import load_config, load_model
from students.loading.finite_weights import check_finite_weights
from students.loading.stored import StoredPrecision, stored_precision
from students.recording.own_tokens import OwnTokens
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from students.recording.batch import Batch


@dataclass(kw_only=True)
class Teacher(TeacherSettings):
    """The model to distill.

    Args:
        model: a hub name, a folder, or an earlier run; a folder may hold a PEFT adapter, which is merged.
        cache: store logits and hidden states of the training rows on disk, beside the runs; later epochs, and later
            runs with the same teacher and rows, read them. Attention is not stored, nor are the logits of a vocabulary;
            at steps where a loss needs these the teacher runs, and a cache that would never be read is refused.
        dtype: of its weights and computation; by default that of its files, on a CPU float32. Losses compute in float32
            in any case.
        check: refuse a teacher that is no better on validation data than the most frequent class, before the first
            step.
        max_length: of a teacher that reads the texts in tokens of its own: longer ones are truncated to this number of
            them; by default that of the task. It does so if its tokenizer is not the student's, or if this is given.
        drop_when_matched: train without the teacher after the first validation in which the student, in its final form,
            is as good.
    """

    shorthand: ClassVar[str] = "model"
    is_teacher: ClassVar[bool] = True
    is_frozen: ClassVar[bool] = True

    model: str
    cache: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    check: bool = True
    max_length: int | None = None
    drop_when_matched: bool = False

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length: must be at least 1, not {self.max_length}")

    @property
    def caches_outputs(self) -> bool:
        """Whether its outputs are cached on disk."""
        return self.cache

    @property
    def can_be_matched(self) -> bool:
        """Whether training goes on without it once the student matches it."""
        return self.drop_when_matched

    def trained_teachers(self) -> dict[str, Teacher]:
        return {"teacher": self}

    def config(self) -> PretrainedConfig:
        """Return its config, without loading weights."""
        return load_config(resolve(self.model))

    def stored(self) -> StoredPrecision:
        """Return the precision of its files, by which its size is reported."""
        return stored_precision(resolve(self.model))

    def load(self, head: type) -> PreTrainedModel:
        """Return the model with the head of an Auto class of transformers; in float32 if torch cannot run its dtype.

        Raises:
            ValueError: if its head is not trained, or a weight is not finite.
        """
        dtype = self.dtype or self.stored().precision
        dtype = getattr(torch, dtype) if dtype in ("bfloat16", "float16") else torch.float32
        model, missing = load_model(head, resolve(self.model), self.config(), dtype=dtype)
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}; fine-tune it first (finetune.yaml)")
        check_finite_weights(model)
        return model


class FrozenTeacher:
    """Runs a model without gradients, only as far as the requested signals need.

    It is not a ``Module``, so it stays outside state dicts, optimizers, gradient norms and DDP buckets.

    Args:
        model: in the precision in which it runs.
        stored: the precision of its files; float32 by default.
        own_tokens: its inputs in a batch, if its tokenizer is not the student's.
    """

    def __init__(
        self, model: PreTrainedModel, stored: StoredPrecision | None = None, own_tokens: OwnTokens | None = None
    ):
        from students.recording.trace import Recorder  # not above: a config is read without transformers

        self.model = model.eval().requires_grad_(False)
        self.stored = stored or StoredPrecision("float32", 4)
        self.own_tokens = own_tokens
        self.recorder = Recorder(model)

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""
        self.model.to(device)

    def read(self, batch: Batch) -> Batch:
        """Return a batch with the inputs of this teacher; reading twice is reading once."""
        return self.own_tokens.read(batch) if self.own_tokens else batch

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """Return the signals of a batch, in the precision of the model; losses compute in float32.

        The logits of words are at the student's positions.
        """
        return self.align(self.record(batch, signals), batch)

    def align(self, trace: Trace, batch: Batch) -> Trace:
        """Return a trace of ``record`` with the logits of words at the student's positions in the batch."""
        if trace.logits is not None and self.own_tokens:
            trace.logits = self.own_tokens.align(trace.logits, batch)
        return trace

    @torch.no_grad()
    def record(self, batch: Batch, signals: Signals) -> Trace:
        """Return the signals of a batch, all at the positions of this teacher's tokens."""
        from torch.distributed.fsdp import FSDPModule

        is_float32, device = self.model.dtype == torch.float32, self.model.device.type
        # A model in half precision runs without autocast, which may be to the other half type.
        with nullcontext() if is_float32 else torch.autocast(device, enabled=False):
            return self.recorder.trace(self.read(batch), signals, stop_early=not isinstance(self.model, FSDPModule))
