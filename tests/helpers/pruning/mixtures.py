"""Tiny random models with experts."""

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from tests.helpers.students.derived import DECODER, SIZES

_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2}
_ROUTED = {"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 0}
_LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "qk_nope_head_dim": 4}
_LATENT |= {"num_key_value_heads": 4, "n_group": 1, "topk_group": 1}
MIXTURES = {
    "mixtral": DECODER | {"num_local_experts": 6, "num_experts_per_tok": 2},
    "qwen3_moe": DECODER | _EXPERTS | {"moe_intermediate_size": 32, "head_dim": 8, "norm_topk_prob": True},
    "olmoe": DECODER | _EXPERTS | {"num_key_value_heads": 4},
    "gpt_oss": DECODER | {"num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 8},
    "qwen2_moe": DECODER | _EXPERTS | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 16},
    "granitemoe": DECODER | {"num_local_experts": 6, "num_experts_per_tok": 2},
    "deepseek_v2": DECODER | _ROUTED | _LATENT,
    "deepseek_v3": DECODER | _ROUTED | _LATENT,
    "glm4_moe": DECODER | _ROUTED | {"head_dim": 8},
}
"""By family, the sizes of a model of 6 experts, of which a token gets 2."""


def mixture(name: str, head: str = "language", **sizes: object) -> PreTrainedModel:
    """A model of two blocks whose routing is far from uniform, the same at every call."""
    config = AutoConfig.for_model(name, **(SIZES | MIXTURES[name] | {"num_hidden_layers": 2} | sizes))
    auto = AutoModelForSequenceClassification if head == "classification" else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            for name, buffer in model.named_buffers():
                if name.endswith("correction_bias"):
                    buffer.normal_(std=0.3)
    return model.eval()


def texts() -> dict[str, Tensor]:
    """Three texts of different lengths."""
    ids = torch.randint(5, 100, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(12) < torch.tensor([12, 9, 5])[:, None]).long()
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def logits(model: PreTrainedModel) -> Tensor:
    """The logits of the texts."""
    with torch.no_grad():
        return model(**texts()).logits
