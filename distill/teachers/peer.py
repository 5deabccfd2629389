"""Two students, each of which is the other's teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from distill.teachers.settings import TeacherSettings
from losses.loss import Loss
from students.kinds.student import Student
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Peer(TeacherSettings):
    """A second student; both learn from each other (deep mutual learning, Zhang et al. 2018, arXiv 1706.00384).

    The peer is trained with the run's losses on logits, with the roles swapped and on the same schedule; so before the
    ``start`` of a loss on the teacher neither sees the other (burn-in: Anil et al. 2018, arXiv 1804.03235). No gradient
    flows between them, but ``gradient_clip_val`` limits their joint norm. The peer is not pruned, quantized or
    deployed.

    Args:
        peer: how it is built; a ``Transformer`` has the shape of the student unless it says otherwise.
    """

    is_teacher: ClassVar[bool] = True
    changes_with_student: ClassVar[bool] = True
    can_be_matched: ClassVar[bool] = True

    peer: Student

    def create_online(self, student: PreTrainedModel, head: type | None = None) -> LearningPeer:
        config = student.config
        return LearningPeer(self.peer.build(student, config.id2label, config.problem_type, head))


class LearningPeer:
    """The peer as a teacher; its model is part of the trained module, and its outputs have gradients.

    Args:
        model: the peer, in float32.
    """

    def __init__(self, model: PreTrainedModel):
        from students.recording.trace import Recorder  # not above: a config is read without transformers

        self.model = model
        self.recorder = Recorder(model)

    def to(self, device: torch.device) -> None:
        """Do nothing: the trained module moves the model."""

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """Return the signals of a batch, and always logits, as the peer learns at every step."""
        return self.recorder.trace(batch, signals | Signals(logits=True))


def uses_logits_only(loss: Loss) -> bool:
    """Return whether a loss uses logits only and learns nothing, so that student and peer can swap roles in it."""
    return loss.student_signals | loss.teacher_signals == Signals(logits=True) and not any(loss.parameters())
