"""The table of model families, the only place that names them: to add a family, add an entry to ``FAMILIES``."""

from dataclasses import replace

from students.families.parts import AttentionParts, Family, FeedForwardParts, LayerStack, Projection

RECURRENT = "recurrent"
"""The ``model_type`` of our recurrent networks."""
STATIC = "static"
"""The ``model_type`` of our static models."""
OWN = {RECURRENT: "recurrent network", STATIC: "static model"}
"""What our own models are called, by ``model_type``: they have no attention, feed-forward or residual stream."""
COMPACT = "compact-"
"""The prefix of the ``model_type`` of a compact model, before the family."""


def _feed_forward(inner: tuple[str, ...], outer: str) -> FeedForwardParts:
    return FeedForwardParts(tuple(map(Projection, inner)), outer)


def _bert() -> LayerStack:
    attention = AttentionParts(
        "attention.self",
        (Projection("attention.self.query"),),
        (Projection("attention.self.key"), Projection("attention.self.value")),
        "attention.output.dense",
        "attention_head_size",
        ("num_attention_heads",),
        ("all_head_size",),
    )
    return LayerStack("encoder.layer", {"self": attention}, _feed_forward(("intermediate.dense",), "output.dense"))


def _unfused(
    module: str, names: tuple[str, str, str, str], head_dim: str, num_heads: tuple[str, ...], inner_dim: tuple[str, ...]
) -> AttentionParts:
    """Return an attention with four linear layers, named query, key, value, output."""
    q, k, v, o = (f"{module}.{name}" for name in names)
    keys = (Projection(k), Projection(v))
    return AttentionParts(module, (Projection(q),), keys, o, head_dim, num_heads, inner_dim)


_DISTILBERT = LayerStack(
    "transformer.layer",
    {
        "self": _unfused(
            "attention", ("q_lin", "k_lin", "v_lin", "out_lin"), "attention_head_size", ("n_heads",), ("dim",)
        )
    },
    _feed_forward(("ffn.lin1",), "ffn.lin2"),
    intermediate="hidden_dim",
)
_ALBERT = LayerStack(
    "encoder.albert_layer_groups",
    {
        "self": _unfused(
            "albert_layers.0.attention",
            ("query", "key", "value", "dense"),
            "attention_head_size",
            ("num_attention_heads",),
            ("all_head_size",),
        )
    },
    _feed_forward(("albert_layers.0.ffn",), "albert_layers.0.ffn_output"),
    groups="num_hidden_groups",
)
_GPT2 = LayerStack(
    "h",
    {
        "self": AttentionParts(
            "attn",
            (Projection("attn.c_attn", 0, 3),),
            (Projection("attn.c_attn", 1, 3), Projection("attn.c_attn", 2, 3)),
            "attn.c_proj",
            "head_dim",
            ("num_heads",),
            ("embed_dim",),
            "split_size",
        )
    },
    _feed_forward(("mlp.c_fc",), "mlp.c_proj"),
    intermediate="n_inner",
)
_LLAMA = LayerStack(
    "layers",
    {
        "self": replace(
            _unfused("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj"), "head_dim", (), ()),
            num_key_value_groups="num_key_value_groups",
        )
    },
    _feed_forward(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
)
_T5_SELF = _unfused("layer.0.SelfAttention", ("q", "k", "v", "o"), "key_value_proj_dim", ("n_heads",), ("inner_dim",))
_T5_CROSS = replace(
    _unfused("layer.1.EncDecAttention", ("q", "k", "v", "o"), "key_value_proj_dim", ("n_heads",), ("inner_dim",)),
    zero_bias=("position_bias", 1),
)
_T5_INNER = ("DenseReluDense.wi", "DenseReluDense.wi_0", "DenseReluDense.wi_1")
_T5 = {
    "encoder": LayerStack(
        "encoder.block",
        {"self": _T5_SELF},
        _feed_forward(tuple(f"layer.1.{name}" for name in _T5_INNER), "layer.1.DenseReluDense.wo"),
        "num_layers",
        intermediate="d_ff",
    ),
    "decoder": LayerStack(
        "decoder.block",
        {"self": _T5_SELF, "cross": _T5_CROSS},
        _feed_forward(tuple(f"layer.2.{name}" for name in _T5_INNER), "layer.2.DenseReluDense.wo"),
        "num_decoder_layers",
        intermediate="d_ff",
    ),
}

_RECURRENT_LAYERS = tuple(
    f"{direction}.{name}"
    for direction in ("forward_direction", "backward_direction")
    for name in ("input", "recurrent", "projection")
)
_RECURRENT = LayerStack("layers", {}, None, recurrence=_RECURRENT_LAYERS)

FAMILIES: dict[str, Family] = {
    "bert": Family({"encoder": _bert()}),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), Family({"encoder": _bert()}, position_offset=True)),
    "electra": Family({"encoder": _bert()}, joint_widths=("embedding_size",)),
    "distilbert": Family({"encoder": _DISTILBERT}),
    "albert": Family({"encoder": _ALBERT}, joint_widths=("embedding_size",)),
    "gpt2": Family({"decoder": _GPT2}, position_embeddings="wpe"),
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3"),
        Family({"decoder": _LLAMA}, position_embeddings="", head_size="head_dim"),
    ),
    **dict.fromkeys(
        ("t5", "mt5"),
        Family(
            _T5,
            has_fixed_heads=True,
            position_embeddings="",
        ),
    ),
    RECURRENT: Family({"encoder": _RECURRENT}, width="embedding_size", position_embeddings=""),
    STATIC: Family({}, width="embedding_size", position_embeddings="", level="outputs"),
}
