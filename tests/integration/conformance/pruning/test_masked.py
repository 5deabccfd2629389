"""The sparsity of a mask is met, its penalty added and its units absent, in every family."""

import pytest
import torch

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.penalty import group_lasso
from prune_schedules.targets.mask import Mask
from students.structure.places import select_modules
from students.weights import find_weight_transforms, raw_parameter
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.models import mask

TIMELINE = Timeline(total_steps=20, epoch_steps=10)


@pytest.mark.parametrize("shape", ["elements", "neurons", "heads", [4, 4]])
def test_the_gradient_is_added_where_nothing_is_masked(name, shape):
    model = tiny(name).eval()
    pruner = Magnitude(sparsity=Constant(0.5), shape=shape, penalty=Constant(0.3))
    pruner.attach(model)
    pruner.update(0, TIMELINE)
    model(**batch(name)).loss.backward()
    places = [place for part in pruner.targets for place in part.parameters]
    before = {place: raw_parameter(*place).grad.clone() for place in places}
    value = pruner.add_penalty_gradients(0, TIMELINE)
    expected = group_lasso([part.entries(getattr) for part in pruner.targets]).detach()
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


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_share_is_met_exactly(name, scope):
    model, pruner = tiny(name), Magnitude(sparsity=Constant(0.37), scope=scope)
    pruner.attach(model)
    pruner.update(0, TIMELINE)
    weights = [module.weight for module in select_modules(model, ["attention", "ffn"])[0].values()]
    zeros = [int((weight == 0).sum()) for weight in weights]
    sizes = [weight.numel() for weight in weights]
    if scope == "global":
        assert sum(zeros) == round(0.37 * sum(sizes))
    else:
        assert zeros == [round(0.37 * size) for size in sizes]
    assert pruner.current_sparsity() == sum(zeros) / sum(sizes) == Prune({"a": pruner}).sparsity


@pytest.mark.parametrize("shape", ["neurons", "heads", "layers", "hidden"])
def test_a_masked_unit_is_absent(name, shape):
    """Whatever is put into the weights of a masked unit, the outputs stay."""
    model = tiny(name)
    assert mask(model, 0.5, shape).current_sparsity() == 0.5
    inputs, before = batch(name), model(**batch(name)).logits
    masks = find_weight_transforms(model, Mask)
    on = sum(mask_step.enabled for mask_step in masks.values())
    assert 0 < on < len(masks) if shape == "layers" else on == len(masks) > 0
    with torch.no_grad():
        for path, mask_step in masks.items():
            weight = raw_parameter(model.get_submodule(path.rsplit(".", 2)[0]), path.rsplit(".", 2)[1])
            weight.masked_fill_(~mask_step.mask, 7.0)
    assert torch.equal(model(**inputs).logits, before)
