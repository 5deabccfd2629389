"""The teacher in columns of the data: rows without cells are one-hot at their label, exactly."""

import math

import pytest
import torch

from distill.tasks.soft_labels import KEY, LOG_ZERO
from distill.teachers.columns import Columns
from distill.teachers.recorded import RecordedTeacher, fill_missing, has_zeros
from losses.outputs.logits import JensenShannon, Logits
from losses.outputs.mse import LogitsMSE
from prune_schedules.schedule import Constant, Timeline
from students.recording.signals import Signals, Trace
from tests.helpers.families import tiny_config

NAN = math.nan
LINE = Timeline(10, 10)


def batch(logits: list[list[float]], labels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.ones(len(logits), 4, dtype=torch.long), "labels": labels, KEY: torch.tensor(logits)}


def compared(loss, student: torch.Tensor, rows: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    """The sum of a loss over rows, and its gradient."""
    config = tiny_config("bert")
    config.num_labels = student.shape[-1]
    loss.setup(config, config)
    student = student.float().requires_grad_()
    total, count = loss(
        Trace(student, {}, {}, {}), RecordedTeacher().trace(rows, Signals(logits=True)), rows, loss.at(0, LINE)
    )
    assert count == len(student)
    total.backward()
    return float(total), student.grad


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 50.0])
def test_a_row_without_cells_has_the_cross_entropy_of_its_label(temperature: float) -> None:
    student = 3 * torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 0, 3])
    rows = batch([[NAN] * 4, [0.1, -1.0, 2.0, 0.0], [NAN] * 4], labels)
    total, gradient = compared(Logits(temperature=Constant(temperature)), student, rows)
    student = student.requires_grad_()
    log_q = (student / temperature).log_softmax(-1)
    log_p = (torch.tensor([0.1, -1.0, 2.0, 0.0], dtype=torch.float64) / temperature).log_softmax(-1)
    expected = temperature**2 * (-log_q[0, 2] - log_q[2, 3] + (log_p.exp() * (log_p - log_q[1])).sum())
    expected.backward()
    assert total == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(gradient.double(), student.grad, rtol=1e-4, atol=1e-5 * temperature)


@pytest.mark.parametrize("loss", [Logits(), JensenShannon()])
def test_a_probability_of_zero_is_exact(loss) -> None:
    student, p = torch.tensor([[0.3, -0.2, 1.0]], dtype=torch.float64), torch.tensor([0.25, 0.75, 0.0]).double()
    rows = batch([[math.log(0.25), math.log(0.75), LOG_ZERO]], torch.tensor([0]))
    total, _ = compared(loss, student, rows)
    q = student[0].softmax(-1)

    def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.where(a > 0, a * (a.clamp(min=1e-300).log() - b.log()), 0.0).sum()

    m = (p + q) / 2
    expected = kl(p, q) if isinstance(loss, Logits) else kl(p, m) / 2 + kl(q, m) / 2
    assert total == pytest.approx(float(expected), rel=1e-5)


def test_in_a_regression_the_label_is_the_target() -> None:
    labels = torch.tensor([0.5, 2.0])
    total, _ = compared(LogitsMSE(), torch.tensor([[1.0], [1.0]]), batch([[NAN], [4.0]], labels))
    assert total == pytest.approx(0.5 * 0.5**2 + 0.5 * 3.0**2)
    assert fill_missing(torch.tensor([[NAN], [4.0]]), labels, are_numbers=True).tolist() == [[0.5], [4.0]]


def test_rows_with_a_zero_or_without_cells_are_found() -> None:
    logits = torch.tensor([[0.7 * LOG_ZERO, 0.0], [NAN, NAN], [-60.0, 0.0]], dtype=torch.float64)
    assert has_zeros(logits, 0.7).tolist() == [True, True, False]


def test_the_teacher_is_evaluated_on_rows_with_cells() -> None:
    settings = Columns(columns=["a", "b"])
    labels = torch.tensor([0, 1])
    full, empty = batch([[0.0, 1.0], [NAN, NAN]], labels), batch([[NAN, NAN]] * 2, labels)
    (found,) = settings.recorded_batches([full, empty, {"labels": labels}])
    assert found["labels"].tolist() == [0] and found[KEY].tolist() == [[0.0, 1.0]]


def test_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="teacher: outputs alone are recorded"):
        RecordedTeacher().trace(batch([[0.0, 1.0]], torch.tensor([0])), Signals(hidden=frozenset({("encoder", 1)})))
