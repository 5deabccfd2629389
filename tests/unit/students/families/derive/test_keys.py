"""The keys of a config that hold sizes are found by what changes with them."""

import pytest

from students.families.derive.keys import head_size_key, heads_key, joint_widths, neurons_key
from tests.helpers.families import tiny_config
from tests.helpers.students.derived import config_of


def test_neurons() -> None:
    opt, bart, gpt2 = config_of("opt"), config_of("bart", encoder_ffn_dim=48), tiny_config("gpt2")
    assert neurons_key(opt, "decoder.layers", "fc2", 64) == "ffn_dim"
    assert neurons_key(bart, "encoder.layers", "fc2", 48) == "encoder_ffn_dim"
    assert neurons_key(bart, "decoder.layers", "fc2", 64) == "decoder_ffn_dim"
    gpt2.n_inner = None
    assert neurons_key(gpt2, "h", "mlp.c_proj", 128) == "n_inner"
    assert neurons_key(config_of("bloom"), "h", "mlp.dense_4h_to_h", 128) is None  # always four times the hidden size


@pytest.mark.parametrize(
    ("name", "stack", "blocks", "reader", "expected"),
    [
        ("bart", "decoder", "decoder.layers", "self_attn.out_proj", "decoder_attention_heads"),
        ("phi", "decoder", "layers", "self_attn.dense", "num_attention_heads"),
    ],
)
def test_heads(name: str, stack: str, blocks: str, reader: str, expected: str) -> None:
    key_heads = 2 if name == "phi" else 4
    assert heads_key(config_of(name), stack, blocks, reader, 4, key_heads) == expected


def test_the_size_of_a_head() -> None:
    assert head_size_key(config_of("phi"), "layers", "self_attn.dense", 8) == "head_dim"
    assert head_size_key(config_of("opt"), "decoder.layers", "self_attn.out_proj", 8) == ""


def test_widths_that_change_with_the_hidden_size() -> None:
    assert joint_widths(config_of("opt"), []) == ("word_embed_proj_dim",)
    assert joint_widths(config_of("opt", word_embed_proj_dim=16), []) == ()
    electra = tiny_config("electra")
    electra.embedding_size = electra.hidden_size
    assert joint_widths(electra, []) == ("embedding_size",)
    assert joint_widths(config_of("modernbert", intermediate_size=32), []) == ()
