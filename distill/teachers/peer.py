"""Two students that are each other's teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from losses.loss import Loss
from students.kinds.student import Student
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Peer:
    """A second student that learns along, each the other's teacher (Zhang et al. 2018, arXiv 1706.00384).

    It learns by the run's losses on outputs, with the roles exchanged and at the same moments; so before the ``start``
    of a loss that looks at the teacher neither looks at the other (burn-in: Anil et al. 2018, arXiv 1804.03235). No
    gradient goes from one to the other, but ``gradient_clip_val`` bounds both as one. It is not pruned or quantized,
    and not deployed.

    Args:
        peer: how it is built; a ``Transformer`` has the shape of the student where it does not say another.
    """

    teaches: ClassVar[bool] = True
    changes_with_student: ClassVar[bool] = True
    may_know_no_more: ClassVar[bool] = True

    peer: Student

    def begin(self, student: PreTrainedModel, head: type | None = None) -> LearningPeer:
        """The peer before the first step, with a head of the same kind.

        Raises:
            ValueError: if it cannot be built beside this student.
        """
        config = student.config
        return LearningPeer(self.peer.build(student, config.id2label, config.problem_type, head))


class LearningPeer:
    """The teacher that is a student too; its model is a part of the trained module, and what it says has a gradient.

    Args:
        model: the peer, in float32.
    """

    def __init__(self, model: PreTrainedModel):
        from students.recording.trace import Recorder  # not above: a config is read without transformers

        self.model = model
        self.recorder = Recorder(model)

    def to(self, device: torch.device) -> None:
        """Nothing: the module moves it."""

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """The signals of one batch, and its logits in any case, for it learns at every step."""
        return self.recorder.trace(batch, signals | Signals(logits=True))


def on_outputs(loss: Loss) -> bool:
    """Whether a loss looks at logits alone, so that two models can change places in it."""
    return loss.student_signals | loss.teacher_signals == Signals(logits=True)
