import pytest
import torch

from prune_schedules.schedule import Constant, Linear, Timeline, TimePoint
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.penalty import group_lasso
from tests.helpers.families import batch, tiny

TIMELINE = Timeline(total_steps=20, epoch_steps=10)


def test_the_group_lasso_is_the_sum_of_norms():
    torch.manual_seed(0)
    rows, columns = torch.randn(5, 7), torch.randn(5, 2)
    together = torch.cat([rows, columns], dim=1).double()
    expected = 9**0.5 * sum(row.square().sum().sqrt() for row in together)
    assert float(group_lasso([[rows, columns]])) == pytest.approx(float(expected), rel=1e-6)
    single = torch.randn(3, 4, 1)
    assert float(group_lasso([[single]])) == pytest.approx(float(single.abs().sum()), rel=1e-6)


def test_a_group_of_zeros_has_no_gradient():
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    group_lasso([[weight]]).backward()
    torch.testing.assert_close(weight.grad, 2**0.5 * torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


def test_outside_its_window_nothing_is_computed():
    model = tiny("bert")
    fade = Linear(initial=0.1, to=0.0, start=TimePoint("10%"), stop=TimePoint("50%"))
    pruner = Magnitude(sparsity=Constant(0.0), penalty=fade)
    pruner.attach(model)
    model(**batch("bert")).loss.backward()
    assert [pruner.add_penalty_gradients(step, TIMELINE) > 0 for step in (0, 5, 10, 15)] == [True, True, False, False]
