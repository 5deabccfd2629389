"""Tiny models whose families no table lists, by the level that they have, and texts for them."""

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_labels": 3,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
ENCODER = {"intermediate_size": 64, "max_position_embeddings": 66}
DECODER = ENCODER | {"num_key_value_heads": 2}
PAIR = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 66,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_experts": 4}
STRUCTURE = {
    "modernbert": ENCODER | {"local_attention": 6, "cls_token_id": 2, "sep_token_id": 3},
    "gpt_neox": ENCODER,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 66},
    "phi": DECODER,
    "mixtral": DECODER | {"num_local_experts": 4},
    "qwen3_moe": DECODER | EXPERTS | {"head_dim": 8},
    "gpt_oss": DECODER | {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "bart": PAIR,
    "starcoder2": DECODER,
    "deberta-v2": ENCODER | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    "mpnet": ENCODER,
    "bloom": {},
    "xlnet": {"d_inner": 64, "d_head": 8},
}
HIDDEN = {"big_bird": ENCODER | {"block_size": 4}}
DERIVED = STRUCTURE | HIDDEN


def config_of(name: str, **changes: object) -> PretrainedConfig:
    """The config of a tiny model, of three blocks."""
    return AutoConfig.for_model(name, **(SIZES | DERIVED[name] | changes))


def model_of(name: str, **changes: object) -> PreTrainedModel:
    """A random model whose attention is far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config_of(name, **changes))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def texts() -> dict[str, Tensor]:
    """Two texts that end as BART's classifier wants, the second padded."""
    ids = torch.randint(5, 100, (2, 9), generator=torch.Generator().manual_seed(0))
    ids[0, 8] = ids[1, 5] = 3
    ids[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}
