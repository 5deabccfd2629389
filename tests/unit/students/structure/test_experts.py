"""Experts as units: masked, cut, saved and loaded, a model computes the same."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

import students  # noqa: F401  # so that the Auto classes know compact models
from prune_schedules.structure.cut import cut
from prune_schedules.targets.experts import ExpertTarget
from students.families.families import family
from students.kinds.transformer import Transformer
from students.structure.experts import experts, has_experts
from students.structure.resized import block_sizes
from students.weights import fold
from tests.helpers.families import tiny
from tests.helpers.pruning.mixtures import MIXTURES, logits, mixture

KEPT = ([0, 2, 3, 5], [1, 4], [4])
"""Experts that are left; the last are fewer than a token gets."""
GROUPED = ("deepseek_v3", "glm4_moe")
"""Those whose router needs two experts."""


def masked(model: PreTrainedModel, *kept: list[int]) -> PreTrainedModel:
    """The model, of whose blocks each keeps these experts."""
    for units, numbers in zip(experts(model), kept, strict=True):
        ExpertTarget(units).keep(torch.isin(torch.arange(units.count), torch.tensor(numbers)))
    return model


@pytest.mark.parametrize("name", MIXTURES)
def test_every_block_has_its_experts(name: str) -> None:
    model = mixture(name)
    assert [(units.name, units.count) for units in experts(model)] == [
        ("decoder.0.experts", 6),
        ("decoder.1.experts", 6),
    ]
    assert block_sizes(model)["decoder"] == [{"experts": 6}] * 2 or family(model.config).level == "structure"


@pytest.mark.parametrize("kept", KEPT, ids=["four", "two", "one"])
@pytest.mark.parametrize("name", MIXTURES)
def test_masked_experts_are_cut_and_loaded_by_plain_transformers(name: str, kept: list[int], tmp_path: Path) -> None:
    model = mixture(name)
    if len(kept) < 2 and name in GROUPED:
        assert ExpertTarget(experts(model)[0]).min_kept == 2
        with pytest.raises(ValueError, match=f"^experts: a router of a {name} needs 2, not 1$"):
            Transformer(experts=1).check(model.config)
        return
    model = masked(model, kept, kept)
    before = logits(model)
    assert not torch.allclose(before, logits(mixture(name)), atol=1e-3)
    fold(model)
    torch.testing.assert_close(logits(model), before)
    report = cut(model)
    assert report.is_stock and report.units["decoder.1.experts"] == (6, len(kept))
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)
    parts = next(iter(family(model.config).stacks.values())).experts
    assert getattr(model.config, parts.num_experts) == len(kept)
    assert getattr(model.config, parts.per_token) == min(len(kept), 2)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is type(mixture(name))
    torch.testing.assert_close(logits(loaded.eval()), logits(model))


def test_a_block_with_a_dense_feed_forward_has_no_experts() -> None:
    model = mixture("qwen3_moe", mlp_only_layers=[0])
    assert [units.name for units in experts(model)] == ["decoder.1.experts"]
    model = masked(model, [1, 2])
    before = logits(model)
    fold(model)
    assert cut(model).is_stock
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["deepseek_v2", "deepseek_v3", "glm4_moe"])
def test_the_first_blocks_may_be_dense(name: str, tmp_path: Path) -> None:
    """As those of DeepSeek; blocks of different numbers of experts are saved and loaded too, with the router's bias."""
    model = mixture(name, num_hidden_layers=4, first_k_dense_replace=2)
    assert [units.name for units in experts(model)] == ["decoder.2.experts", "decoder.3.experts"]
    model = masked(model, [1, 2], [0, 3, 4])
    before = logits(model)
    fold(model)
    assert not cut(model).is_stock
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert [units.count for units in experts(loaded)] == [2, 3]
    torch.testing.assert_close(logits(loaded), before, atol=1e-5, rtol=1e-5)


def test_a_dense_family_has_none() -> None:
    model = tiny("llama")
    assert experts(model) == [] and not has_experts(model.config)
