"""No loss counts the padding of answers that are pieces of a context."""

import pytest
import torch

from distill.config.schema import subclasses
from distill.experiment.compatibility import conflicts
from distill.experiment.components import components
from distill.experiment.experiment import Experiment
from distill.tasks.kinds.spans import QuestionAnswering
from losses.loss import Loss, PerPrediction
from prune_schedules.schedule import Timeline
from students.kinds.transformer import Transformer
from students.recording.signals import Trace

KINDS = [
    cls
    for cls in subclasses(Loss).values()
    if issubclass(cls, PerPrediction) and cls.reads_predictions and not cls.compares_passages
]
REFUSED = {"DIST": {}, "Labels": {"smoothing": 0.1}, "LogitsMSE": {"noise_std": 0.1, "noise_probability": 0.5}}


def experiment(loss: Loss) -> Experiment:
    return Experiment(task=QuestionAnswering(data="x"), student=Transformer(layers=1), losses={"mine": loss})


def is_refused(loss: Loss) -> bool:
    """Whether a run with this loss is refused because of padding."""
    conflict = (
        "losses.mine",
        "DIST, noise and smoothing would count padding where the classes are positions in a text",
    )
    return conflict in conflicts(components(experiment(loss)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_loss_counts_padding(kind):
    """Each loss on outputs is the same with padding as without, or refused."""
    draw = torch.Generator().manual_seed(0)
    logits, loss = torch.randn(2, 2, 6, 2, generator=draw), kind()

    def value(padding: int) -> float:
        student, teacher = torch.nn.functional.pad(logits, (0, 0, 0, padding), value=3.0)
        mask = torch.arange(6 + padding).expand(2, -1) < 6
        batch = {"input_ids": mask.long(), "attention_mask": mask, "labels": torch.tensor([[1, 2], [3, 4]])}
        values = loss.at(0, Timeline(10, 1))
        task = experiment(loss).task
        total, count = loss(
            *(Trace(task.select_logits(z, batch), {}, {}, {}) for z in (student, teacher)), batch, values
        )
        return float(total / count)

    options = REFUSED.get(kind.__name__)
    assert is_refused(loss) == (options == {})
    if not is_refused(loss):
        assert value(5) == pytest.approx(value(0), rel=1e-5)
    assert not options or is_refused(kind(**options))
