"""What all shapes of pruning leave of a family is saved and loaded again."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill.training.prepare.checks.round_trip import cut_fully, prune_fully, round_trip
from prune_schedules.schedule import Cubic, Timeline
from prune_schedules.scores.magnitude import Magnitude
from tests.helpers.families import FAMILIES, HEIRS, LLAMAS, batch, tiny, tiny_config
from tests.helpers.repositories import save_tokenizer

TIMELINE = Timeline(total_steps=20, epoch_steps=10)


def tokenizer_of(name, folder):
    """As transformers reads it beside a model of a family: for some it takes their own class, whatever was saved."""
    save_tokenizer(folder)
    tiny_config(name).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def ends(shape, share):
    return Magnitude(shape=shape, sparsity=Cubic(to=share))


@pytest.mark.parametrize("name", [*FAMILIES, *LLAMAS, *HEIRS])
def test_what_all_shapes_leave_of_a_family_is_saved_and_loaded_again(name, tmp_path):
    """The mode, the weights and torch's random numbers are as they were."""
    student, rows, tokenizer = tiny(name, layers=4).train(), batch(name, length=24), tokenizer_of(name, tmp_path)
    before, state = {key: value.clone() for key, value in student.state_dict().items()}, torch.get_rng_state()
    round_trip(student, tokenizer, rows, AutoModelForSequenceClassification)
    pruners = {"hidden": ends("hidden", 0.25), "heads": ends("heads", 0.5), "neurons": ends("neurons", 0.3)}
    pruners |= {"layers": ends("layers", 0.2), "elements": ends("elements", 0.3)}
    smaller, shares = prune_fully(student, pruners, TIMELINE)
    read = cut_fully(smaller, rows)
    round_trip(smaller, tokenizer, read, AutoModelForSequenceClassification)
    assert smaller.config.hidden_size == 24 and smaller.num_parameters() < 0.75 * student.num_parameters()
    assert shares["hidden"] == (0.25, 0.25, 32) and shares["elements"].reachable == pytest.approx(0.3, abs=0.001)
    assert student.training and all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
