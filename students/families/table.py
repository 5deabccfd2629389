"""The table of model families, the only place of the project that names them: a new one is an entry of ``FAMILIES``."""

from dataclasses import replace

from students.families.parts import AttentionParts, Family, FeedForwardParts, Projection, Stack

RECURRENT = "recurrent"
"""The ``model_type`` of our recurrent networks."""
COMPACT = "compact-"
"""What stands before the family in the ``model_type`` of a model of a form of its own."""


def _bert(prefix: str = "attention") -> Stack:
    attention = AttentionParts(
        "attention.self",
        Projection("attention.self.query"),
        Projection("attention.self.key"),
        Projection("attention.self.value"),
        "attention.output.dense",
        "attention_head_size",
        ("num_attention_heads",),
        ("all_head_size",),
    )
    return Stack("encoder.layer", {"self": attention}, FeedForwardParts(("intermediate.dense",), "output.dense"))


def _plain(
    module: str, names: tuple[str, str, str, str], size: str, heads: tuple[str, ...], width: tuple[str, ...]
) -> AttentionParts:
    q, k, v, o = (f"{module}.{name}" for name in names)
    return AttentionParts(module, Projection(q), Projection(k), Projection(v), o, size, heads, width)


_DISTILBERT = Stack(
    "transformer.layer",
    {
        "self": _plain(
            "attention", ("q_lin", "k_lin", "v_lin", "out_lin"), "attention_head_size", ("n_heads",), ("dim",)
        )
    },
    FeedForwardParts(("ffn.lin1",), "ffn.lin2"),
)
_ALBERT = Stack(
    "encoder.albert_layer_groups",
    {
        "self": _plain(
            "albert_layers.0.attention",
            ("query", "key", "value", "dense"),
            "attention_head_size",
            ("num_attention_heads",),
            ("all_head_size",),
        )
    },
    FeedForwardParts(("albert_layers.0.ffn",), "albert_layers.0.ffn_output"),
    groups="num_hidden_groups",
)
_GPT2 = Stack(
    "h",
    {
        "self": AttentionParts(
            "attn",
            Projection("attn.c_attn", 0, 3),
            Projection("attn.c_attn", 1, 3),
            Projection("attn.c_attn", 2, 3),
            "attn.c_proj",
            "head_dim",
            ("num_heads",),
            ("embed_dim",),
            "split_size",
        )
    },
    FeedForwardParts(("mlp.c_fc",), "mlp.c_proj"),
)
_LLAMA = Stack(
    "layers",
    {
        "self": replace(
            _plain("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj"), "head_dim", (), ()),
            sharing="num_key_value_groups",
        )
    },
    FeedForwardParts(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
)
_T5_SELF = _plain("layer.0.SelfAttention", ("q", "k", "v", "o"), "key_value_proj_dim", ("n_heads",), ("inner_dim",))
_T5_CROSS = replace(
    _plain("layer.1.EncDecAttention", ("q", "k", "v", "o"), "key_value_proj_dim", ("n_heads",), ("inner_dim",)),
    zero_bias=("position_bias", 1),
)
_T5_INNER = ("DenseReluDense.wi", "DenseReluDense.wi_0", "DenseReluDense.wi_1")
_T5 = {
    "encoder": Stack(
        "encoder.block",
        {"self": _T5_SELF},
        FeedForwardParts(tuple(f"layer.1.{name}" for name in _T5_INNER), "layer.1.DenseReluDense.wo"),
        "num_layers",
    ),
    "decoder": Stack(
        "decoder.block",
        {"self": _T5_SELF, "cross": _T5_CROSS},
        FeedForwardParts(tuple(f"layer.2.{name}" for name in _T5_INNER), "layer.2.DenseReluDense.wo"),
        "num_decoder_layers",
    ),
}

_HELD = tuple(f"{way}.{name}" for way in ("ahead", "back") for name in ("input", "recurrent", "projection"))
_RECURRENT = Stack("layers", {}, None, recurrence=_HELD)

FAMILIES: dict[str, Family] = {
    "bert": Family({"encoder": _bert()}),
    "roberta": Family({"encoder": _bert()}, position_offset=True),
    "electra": Family({"encoder": _bert()}),
    "distilbert": Family({"encoder": _DISTILBERT}, intermediate="hidden_dim"),
    "albert": Family({"encoder": _ALBERT}),
    "gpt2": Family({"decoder": _GPT2}, intermediate="n_inner", positions="wpe"),
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
        Family({"decoder": _LLAMA}, positions="", head_size="head_dim"),
    ),
    "t5": Family(_T5, intermediate="d_ff", relative_position_bias=True, scaled="scale_decoder_outputs", positions=""),
    RECURRENT: Family({"encoder": _RECURRENT}, width="embedding_size", positions=""),
}
