"""Students in two factors are saved and loaded as the same model in every family."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from students.models.record import record_sizes
from students.structure.factored import get_ranks, rank_components
from students.structure.units import heads, neurons, shrink
from tests.helpers.families import _auto
from tests.helpers.students.low_rank import ALL, build, logits


@pytest.mark.parametrize("head", ["classification", "language"])
def test_saved_and_loaded_it_is_the_same_model(name, head, tmp_path):
    """With units cut of it: 3 neurons of each block, a head of the last, a rank of each layer."""
    model = build(name, head, param_ratio=0.8, where=ALL)
    for units in rank_components(model) + neurons(model):
        shrink(units, torch.arange(units.count) >= (3 if units.name.endswith(".ffn") else 1))
    if name != "t5":
        shrink(heads(model)[-1], torch.arange(heads(model)[-1].count) != 1)
    record_sizes(model)
    before = logits(model, name, head)
    model.save_pretrained(tmp_path)
    loaded, loading = _auto(name, head).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    assert type(loaded) is type(model) and get_ranks(loaded) == get_ranks(model) == loaded.config.ranks
    torch.testing.assert_close(logits(loaded, name, head), before, rtol=0, atol=1e-6)
    bare, inner = AutoModel.from_pretrained(tmp_path).state_dict(), model.base_model.state_dict()
    assert {key for key in bare if not key.startswith("pooler")} <= inner.keys()
    assert all(torch.equal(bare[key], value) for key, value in inner.items() if key in bare)
    fresh = _auto(name, head).from_config(AutoConfig.from_pretrained(tmp_path))
    assert fresh.num_parameters() == model.num_parameters()
