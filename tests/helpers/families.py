"""Tiny random models of the eight families, and padded batches for them; shared by the tests."""

from collections.abc import Sequence
from typing import Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from students.families.families import attention_layers, depth, family
from students.forms.embeddings import Factorised
from students.forms.low_rank import LowRank
from students.kinds.transformer import Transformer
from students.recording.signals import Signals
from students.recording.sparse_lm_head import IGNORED

FAMILIES = ("bert", "roberta", "electra", "distilbert", "albert", "gpt2", "llama", "t5")
ENCODERS = FAMILIES[:5]
LLAMAS = ("mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3")
"""Families whose blocks have the parts of a Llama's, with windows, norms and scales of their own."""
HEIRS = ("xlm-roberta", "camembert", "mt5")
"""Families with the code of RoBERTa and T5."""
WINDOWED = ("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
"""Those of them with windows, of 4 tokens; but for Mistral, in every other block."""
PAD, EOS = dict.fromkeys(("roberta", "xlm-roberta", "camembert"), 1), {"t5": 1, "mt5": 1}

Head = Literal["classification", "language"]


def tiny(
    model_type: str,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    intermediate: int = 64,
    vocab: int = 100,
    labels: int = 3,
    head: Head = "classification",
) -> PreTrainedModel:
    """A random model in eval mode, the same at every call; Llama has half as many key-value heads.

    All weights, biases and norms too, are wide of their usual start, so that a mistake shows in the outputs:
    with the stock initialization attention is nearly uniform and every bias is zero.
    """
    config = tiny_config(model_type, layers, hidden, heads, intermediate, vocab, labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _auto(model_type, head).from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tiny_config(
    model_type: str,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    intermediate: int = 64,
    vocab: int = 100,
    labels: int = 3,
) -> PretrainedConfig:
    """The configuration of ``tiny``; sequences may have up to 64 tokens."""
    bert = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "max_position_embeddings": 66,
    }
    sizes = {
        "bert": bert,
        "roberta": bert | {"type_vocab_size": 1},
        "electra": bert | {"embedding_size": hidden // 2},
        "albert": bert
        | {"embedding_size": hidden // 2, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        "distilbert": {
            "dim": hidden,
            "n_layers": layers,
            "n_heads": heads,
            "hidden_dim": intermediate,
            "max_position_embeddings": 66,
        },
        "gpt2": {"n_embd": hidden, "n_layer": layers, "n_head": heads, "n_inner": intermediate, "n_positions": 66},
        "llama": bert | {"num_key_value_heads": max(1, heads // 2)},
        "t5": {
            "d_model": hidden,
            "num_layers": layers,
            "num_decoder_layers": layers,
            "num_heads": heads,
            "d_kv": hidden // heads,
            "d_ff": intermediate,
            "decoder_start_token_id": 0,
        },
    }
    sizes |= {"mt5": sizes["t5"], "xlm-roberta": sizes["roberta"], "camembert": sizes["roberta"]}
    window = {"sliding_window": 4} if model_type in WINDOWED else {}
    if window and model_type != "mistral":
        window["use_sliding_window"] = True  # which the Qwens ask for
        window["layer_types"] = (["sliding_attention", "full_attention"] * layers)[:layers]
    sizes |= dict.fromkeys(LLAMAS, sizes["llama"] | window)
    if model_type in ("qwen3", "gemma", "gemma2", "gemma3_text"):  # of the others it is the hidden size by the heads
        sizes[model_type] = sizes[model_type] | {"head_dim": hidden // heads}
    return AutoConfig.for_model(
        model_type,
        vocab_size=vocab,
        num_labels=labels,
        pad_token_id=PAD.get(model_type, 0),
        bos_token_id=2,
        eos_token_id=EOS.get(model_type, 3),
        **sizes[model_type],
    )


def low_rank(where: Sequence[str] = ("attention", "ffn"), batches: int = 16, rule: dict | None = None, **base):
    """A ``Transformer`` with what ``where`` names, ``embeddings`` too, in two factors of the ranks of a rule."""
    rule, layers = rule or {}, [part for part in where if part != "embeddings"]
    if layers:
        base["low_rank"] = LowRank(where=layers, batches=batches, **rule)
    if "embeddings" in where:
        base["embeddings"] = Factorised(**rule)
    return Transformer(**base)


def batch(
    model_type: str,
    size: int = 3,
    length: int = 8,
    vocab: int = 100,
    labels: int = 3,
    head: Head = "classification",
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """A right-padded batch, the same at every call: the first row is full, each further one 2 tokens shorter.

    Holds ``input_ids``, ``attention_mask``, ``labels`` (a class per row, or the tokens with -100 on padding),
    ``token_type_ids`` where there are two kinds, T5's ``decoder_input_ids`` and ``decoder_attention_mask``.
    """
    pad, eos = PAD.get(model_type, 0), EOS.get(model_type, 3)
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([max(2, length - 2 * row) for row in range(size)])
    mask = (torch.arange(length) < lengths[:, None]).long()
    ids = torch.randint(5, vocab, (size, length), generator=generator)
    ids[torch.arange(size), lengths - 1] = eos
    ids = ids.masked_fill(mask == 0, pad)
    out = {"input_ids": ids, "attention_mask": mask}
    if model_type in ("bert", "electra", "albert"):
        out["token_type_ids"] = (torch.arange(length) >= length // 2).long().expand(size, length) * mask
    if model_type in ("t5", "mt5"):
        out["decoder_input_ids"] = torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], dim=1)
        out["decoder_attention_mask"] = mask.clone()
    if head == "classification":
        out["labels"] = torch.randint(labels, (size,), generator=generator)
    else:
        out["labels"] = ids.masked_fill(mask == 0, -100)
    return out


def everything(config: PretrainedConfig, logits: bool = True) -> Signals:
    """Every signal that a model has."""
    hidden, attention = set(), set()
    for name, stack in family(config).stacks.items():
        layers = depth(config, name)
        hidden |= {(name, layer) for layer in range(layers + 1)}
        for kind in stack.attention:
            site = name if kind == "self" else kind
            attention |= {(site, layer) for layer in attention_layers(config, site)}
    return Signals(logits=logits, hidden=frozenset(hidden), attention=frozenset(attention))


def _auto(model_type: str, head: Head) -> type:
    if head == "classification":
        return AutoModelForSequenceClassification
    if model_type in ("t5", "mt5"):
        return AutoModelForSeq2SeqLM
    return AutoModelForMaskedLM if model_type in (*ENCODERS, "xlm-roberta", "camembert") else AutoModelForCausalLM


def sparse_labels(name: str) -> dict[str, torch.Tensor]:
    """A batch with two labels in five, as of a masked language model."""
    inputs = batch(name)
    tokens = inputs.get("decoder_input_ids", inputs["input_ids"])
    draw = torch.Generator().manual_seed(0)
    return inputs | {"labels": torch.where(torch.rand(tokens.shape, generator=draw) < 0.4, tokens, IGNORED)}
