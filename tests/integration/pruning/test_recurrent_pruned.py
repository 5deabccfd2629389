"""Recurrent students are pruned by elements, in every layer; what has no units or no inputs of its own is refused."""

import pytest
import torch

from prune_schedules.schedule import Constant
from prune_schedules.scores.l0 import L0
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.wanda import Wanda
from prune_schedules.structure.cut import cut
from students.recording.model_io import model_inputs
from students.weights import fold
from tests.helpers.families import batch
from tests.helpers.students.recurrent import small


def test_elements_of_every_layer_are_pruned():
    model, pruner = small(), Magnitude(sparsity=Constant(0.5))
    given = model_inputs(model, batch("bert"))
    dense = model(**given).logits
    pruner.attach(model)
    assert len(pruner.weights) == 8
    pruner.update_masks(0.5)
    sparse = model(**given).logits
    assert not torch.allclose(sparse, dense)
    fold(model)
    assert torch.equal(model(**given).logits, sparse)
    for layer in model.encoder.layers:
        for direction in layer.directions:
            for part in (direction.input, direction.recurrent):
                assert (part.weight == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    report = cut(model)
    assert report.units == {} and not report.is_stock and report.parameters[0] == report.parameters[1]


@pytest.mark.parametrize("shape", ["neurons", "heads", "layers", "hidden"])
def test_units_of_transformers_are_refused(shape):
    for pruner in (Magnitude(sparsity=Constant(0.5), shape=shape), L0(sparsity=Constant(0.5), shape=shape)):
        with pytest.raises(ValueError, match=f"shape: a recurrent network has no {shape}"):
            pruner.find(small())


def test_pruning_by_what_is_read_is_refused():
    with pytest.raises(ValueError, match="kind: Wanda cannot collect the inputs of layers of a recurrent network"):
        Wanda(sparsity=Constant(0.5)).find(small())
