"""Hidden dimensions are cut out of every family: the outputs stay, and the model is saved and loaded."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from prune_schedules.structure.cut import cut
from prune_schedules.targets.norms import kept_dimensions
from students.structure.units import heads, neurons
from students.weights import fold
from tests.helpers.families import Head, _auto, batch, tiny
from tests.helpers.pruning.models import without


def pruned(name: str, share: float = 0.25, head: Head = "classification", **others: float) -> PreTrainedModel:
    """A tiny model that has lost this share of its hidden dimensions, and of other shapes; masked."""
    return without(tiny(name, head=head), {"hidden": share, **others})


@pytest.mark.parametrize("share", [0.25, 0.3])
@pytest.mark.parametrize("head", ["classification", "language"])
def test_cut_it_gives_the_outputs_of_the_masked_one_and_so_it_does_loaded(name, head, share, tmp_path):
    model, inputs = pruned(name, share, head), batch(name, head=head)
    masked, before = model(**inputs).logits, model.num_parameters()
    fold(model)
    torch.testing.assert_close(model(**inputs).logits, masked, rtol=0, atol=1e-5)
    report, width = cut(model), round(32 * (1 - share))
    torch.testing.assert_close(model(**inputs).logits, masked, rtol=0, atol=1e-5)
    assert report.units["hidden"] == (32, width) and model.config.hidden_size == width
    assert report.parameters == (before, model.num_parameters()) and model.num_parameters() < before
    assert kept_dimensions(model) is None
    # Where heads have a size of their own; Llama wants a multiple of the heads, T5 scales by what was.
    stock = (name == "llama" and width % 4 == 0) or (name == "t5" and head == "classification")
    assert report.is_stock == stock
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).hidden_size == width
    loaded = _auto(name, head).from_pretrained(tmp_path)
    assert type(loaded) is type(model) and loaded.num_parameters() == model.num_parameters()
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    bare = AutoModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(bare[key], value) for key, value in model.base_model.state_dict().items() if key in bare)


def test_beside_all_other_shapes(name):
    model, inputs = pruned(name, 0.3, elements=0.3, neurons=0.5, heads=0.5, layers=0.25), batch(name)
    masked = model(**inputs).logits
    fold(model)
    report = cut(model)
    torch.testing.assert_close(model(**inputs).logits, masked, rtol=0, atol=1e-5)
    assert {units.name: units.count for units in neurons(model) + heads(model)} | {"hidden": 22} == {
        key: after for key, (_, after) in report.units.items()
    }
