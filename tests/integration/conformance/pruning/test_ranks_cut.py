"""Ranks of layers in two factors are cut out of every family, beside all other shapes."""

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.pruner import Pruner
from prune_schedules.structure.cut import cut
from students.structure.factored import get_ranks, rank_components
from students.weights import fold
from tests.helpers.families import batch
from tests.helpers.students.low_rank import ALL, student

TIMELINE = Timeline(total_steps=10, epoch_steps=10)


def masked(model: PreTrainedModel, **shares: float) -> dict[str, Pruner]:
    """Pruners, by shape, that have masked these shares."""
    places = {"ranks": ALL}
    pruners = {
        shape: Magnitude(sparsity=Constant(share), shape=shape, where=places.get(shape))
        for shape, share in shares.items()
    }
    for pruner in pruners.values():
        pruner.attach(model)
        pruner.update(0, TIMELINE)
    return pruners


def logits(model: PreTrainedModel, name: str) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch(name)).logits


def test_cut_it_gives_the_outputs_of_the_masked_one_and_so_it_does_loaded(name, tmp_path):
    """Beside all other shapes."""
    model = student(name)
    masked(model, elements=0.2, ranks=0.5, neurons=0.5, heads=0.5, layers=0.2, hidden=0.25)
    before, had = logits(model, name), {units.name: units.count for units in rank_components(model)}
    fold(model)
    report = cut(model)
    torch.testing.assert_close(logits(model, name), before, rtol=0, atol=1e-5)
    left = {units.name: units.count for units in rank_components(model)}
    assert {key: report.units[key] for key in had} == {key: (count, left[key]) for key, count in had.items()}
    assert all(left[key] <= count - round(0.5 * count) for key, count in had.items())
    assert not report.is_stock and model.config.ranks == get_ranks(model)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.num_parameters() == model.num_parameters()
    torch.testing.assert_close(logits(loaded.eval(), name), logits(model, name), rtol=0, atol=1e-6)
