import pytest
import torch

from prune_schedules.schedule import Constant, Linear, Timeline, TimePoint
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.penalty import group_lasso
from students.weights import raw_parameter
from tests.helpers.families import FAMILIES, batch, tiny

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


@pytest.mark.parametrize("shape", ["elements", "neurons", "heads", [4, 4]])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_is_added_where_nothing_is_masked(name, shape):
    model = tiny(name).eval()
    pruner = Magnitude(sparsity=Constant(0.5), shape=shape, penalty=Constant(0.3))
    pruner.attach(model)
    pruner.update(0, TIMELINE)
    model(**batch(name)).loss.backward()
    places = [place for part in pruner.parts for place in part.places]
    before = {place: raw_parameter(*place).grad.clone() for place in places}
    value = pruner.penalize(0, TIMELINE)
    expected = group_lasso([part.numbers(getattr) for part in pruner.parts]).detach()
    assert value == pytest.approx(0.3 * float(expected))
    for module, key in places:
        added = raw_parameter(module, key).grad - before[module, key]
        here = getattr(module, key) != 0
        assert (added[~here] == 0).all()
        assert ((added * getattr(module, key))[here] >= 0).all() and added[here].abs().max() > 0
        if shape == "elements":
            torch.testing.assert_close(
                added[here], 0.3 * raw_parameter(module, key).detach()[here].sign(), atol=1e-6, rtol=1e-5
            )


def test_outside_its_window_nothing_is_computed():
    model = tiny("bert")
    fade = Linear(initial=0.1, to=0.0, start=TimePoint("10%"), stop=TimePoint("50%"))
    pruner = Magnitude(sparsity=Constant(0.0), penalty=fade)
    pruner.attach(model)
    model(**batch("bert")).loss.backward()
    assert [pruner.penalize(step, TIMELINE) > 0 for step in (0, 5, 10, 15)] == [True, True, False, False]
