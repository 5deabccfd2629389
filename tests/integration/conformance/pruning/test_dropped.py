"""Steps of every family are those of a model without what is dropped."""

import pytest
import torch

from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.targets.mask import Mask
from students.weights import find_weight_transforms, raw_parameter
from tests.helpers.families import batch, tiny

TIMELINE = Timeline(total_steps=20, epoch_steps=10)
NONE, HALF = Constant(0.0), Constant(0.5)


@pytest.mark.parametrize("shape", ["layers", "heads", "neurons", "hidden", "elements"])
def test_a_step_is_one_of_the_model_without_what_is_dropped(name, shape):
    model, pruner = tiny(name).eval(), Magnitude(sparsity=NONE, shape=shape, dropout=HALF)
    pruner.attach(model)
    pruner.update(0, TIMELINE)
    for mask in find_weight_transforms(model, Mask).values():
        mask.train()  # dropout would differ
    pruner.before_forward(3, TIMELINE, {})
    dropped = model(**batch(name))
    dropped.loss.backward()
    pruner.before_optimizer_step(3, TIMELINE)
    gone = [draw < 0.5 for draw in pruner.random_numbers(3)]
    assert any(units.any() for units in gone) and not all(units.all() for units in gone)
    gradients = {place: raw_parameter(*place).grad.clone() for part in pruner.targets for place in part.outgoing_masks}
    bare = model(**batch(name)).logits
    for part, drop in zip(pruner.targets, gone, strict=True):
        part.keep(~drop)
    model.zero_grad()
    expected = model(**batch(name))
    expected.loss.backward()
    torch.testing.assert_close(dropped.logits, expected.logits)
    assert not torch.allclose(bare, dropped.logits)
    for place, gradient in gradients.items():
        torch.testing.assert_close(gradient, raw_parameter(*place).grad)
