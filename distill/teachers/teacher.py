"""The teacher: frozen, in eval mode, as precise as it is stored, and no part of the module that is trained."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from students.kinds.student import resolve
from students.loading.adapters import load_config, load_model
from students.loading.finite_weights import check_finite_weights
from students.loading.stored import StoredPrecision, stored_precision
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class Teacher:
    """The model that is imitated.

    Args:
        model: a hub name, a folder, or an earlier run; in a folder there may be an adapter of PEFT, which is merged.
        cache: keep its logits and hidden states of the training rows on disk, beside the runs; epochs after the first,
            and later runs with the same teacher and rows, read them. Attention is not kept, nor are the logits of a
            vocabulary; at steps where a loss looks at these, the teacher runs, and if it is at all, a cache is refused.
        dtype: of its weights, in which it runs as well; not given, as its files hold them, on a CPU float32. Losses
            compute in float32 in any case.
        check: refuse a teacher that does worse on validation than the most frequent class, before the first step.
        drop_when_matched: go on without the teacher after the first validation in which the student, in its final form,
            is as good.
    """

    plain: ClassVar[str] = "model"
    teaches: ClassVar[bool] = True
    is_frozen: ClassVar[bool] = True

    model: str
    cache: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    check: bool = True
    drop_when_matched: bool = False

    @property
    def keeps_outputs(self) -> bool:
        """Whether they are on disk."""
        return self.cache

    @property
    def may_know_no_more(self) -> bool:
        """Whether the student may reach it, and goes on without."""
        return self.drop_when_matched

    def config(self) -> PretrainedConfig:
        """Its config, without its weights."""
        return load_config(resolve(self.model))

    def stored(self) -> StoredPrecision:
        """The precision of its files, by which it is counted."""
        return stored_precision(resolve(self.model))

    def load(self, head: type) -> PreTrainedModel:
        """It with the head of an Auto class of transformers; in float32 if its files hold what torch cannot run.

        Raises:
            ValueError: if its head is not trained: one at random teaches nothing; or a weight is not finite.
        """
        dtype = self.dtype or self.stored().precision
        dtype = getattr(torch, dtype) if dtype in ("bfloat16", "float16") else torch.float32
        model, missing = load_model(head, resolve(self.model), self.config(), dtype=dtype)
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}; fine-tune it first (finetune.yaml)")
        check_finite_weights(model)
        return model


class FrozenTeacher:
    """Runs a model without gradients, only as far as the signals ask.

    Not a ``Module``: so it is outside state dicts, optimizers, gradient norms and DDP buckets, whatever holds it.

    Args:
        model: in the precision in which it runs.
        stored: how its files hold it; in float32 if not given.
    """

    def __init__(self, model: PreTrainedModel, stored: StoredPrecision | None = None):
        from students.recording.trace import Recorder  # not above: a config is read without transformers

        self.model = model.eval().requires_grad_(False)
        self.stored = stored or StoredPrecision("float32", 4)
        self.recorder = Recorder(model)

    def to(self, device: torch.device) -> None:
        """Moves the weights."""
        self.model.to(device)

    @torch.no_grad()
    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """The signals of one batch, in the precision of the model; losses compute in float32."""
        from torch.distributed.fsdp import FSDPModule

        whole, device = self.model.dtype == torch.float32, self.model.device.type
        # A model in half precision has no use for autocast, which may be to the other one.
        with nullcontext() if whole else torch.autocast(device, enabled=False):
            return self.recorder.trace(batch, signals, stop_early=not isinstance(self.model, FSDPModule))
