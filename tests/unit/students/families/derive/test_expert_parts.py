"""Experts are found by what a model does, or not at all."""

import pytest
import torch
from transformers import AutoConfig

from students.families.derive.expert_parts import with_experts
from students.families.derive.family import derive_family
from students.families.families import family
from students.families.parts import ExpertParts
from tests.helpers.families import tiny_config
from tests.helpers.pruning.mixtures import MIXTURES
from tests.helpers.students.derived import SIZES


def parts_of(name: str, **sizes: object) -> ExpertParts | None:
    config = AutoConfig.for_model(name, **(SIZES | MIXTURES.get(name, {}) | sizes))
    (stack,) = family(config).stacks.values()
    return stack.experts


def test_the_parts_of_mixtral() -> None:
    assert parts_of("mixtral") == ExpertParts(
        router="mlp.gate",
        logits=0,
        experts="mlp.experts",
        parameters=(("mlp.gate", "weight", 0), ("mlp.experts", "gate_up_proj", 0), ("mlp.experts", "down_proj", 0)),
        buffers=(),
        num_outputs=1,
        counters=(("mlp.gate", "num_experts"), ("mlp.experts", "num_experts")),
        limits=(("mlp", "top_k"), ("mlp.gate", "top_k")),
        num_experts="num_local_experts",
        per_token="num_experts_per_tok",
    )


def test_biases_belong_to_an_expert() -> None:
    """Of GPT-OSS: of the router, and of both layers."""
    parts = parts_of("gpt_oss")
    assert [name for _, name, _ in parts.parameters] == [
        "weight",
        "bias",
        "gate_up_proj",
        "gate_up_proj_bias",
        "down_proj",
        "down_proj_bias",
    ]
    assert parts.num_outputs == 2


@pytest.mark.parametrize("number", [1, 2, 6])
def test_the_number_of_experts_of_a_config_does_not_matter(number: int) -> None:
    assert parts_of("qwen3_moe", num_experts=number, num_experts_per_tok=1) == parts_of("qwen3_moe")


def test_a_bias_by_which_a_router_chooses_is_cut_too() -> None:
    """Of DeepSeek-V3, beside shared experts, which are no units."""
    parts = parts_of("deepseek_v3")
    assert parts.buffers == (("mlp.gate", "e_score_correction_bias", 0),) and parts.fewest == 2
    assert {path for path, *_ in parts.parameters} == {"mlp.gate", "mlp.experts"}
    assert parts_of("deepseek_v2").fewest == 1


def test_experts_behind_dense_blocks_are_found() -> None:
    assert parts_of("glm4_moe", num_hidden_layers=5, first_k_dense_replace=4) == parts_of("glm4_moe")


def test_experts_in_groups_of_which_a_router_chooses_some_are_not_known() -> None:
    """A group that loses an expert has no place for the others in the router's arithmetic."""
    assert parts_of("deepseek_v3", n_routed_experts=8, n_group=2) is None


def test_a_dense_model_has_none() -> None:
    stacks = family(tiny_config("llama")).stacks
    assert with_experts(tiny_config("llama"), stacks) is stacks


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_facts_may_be_asked_for_without_gradients(off) -> None:
    """They are kept: what is missed at first would be missing ever after."""
    sizes = SIZES | MIXTURES["mixtral"] | {"vocab_size": 101 if off is torch.no_grad else 102}
    with off():
        facts = derive_family(AutoConfig.for_model("mixtral", **sizes))
    assert facts.level == "structure" and facts.stacks["decoder"].experts
