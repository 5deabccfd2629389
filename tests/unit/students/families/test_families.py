"""The facts of the families, held against tiny models of each."""

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from students.families.families import blocks, depth, family, find_stack, intermediate_size
from students.families.parts import Projection
from students.recording.model_io import model_inputs
from students.recording.signals import Signals
from students.recording.trace import Recorder
from tests.helpers.families import FAMILIES, HEIRS, LLAMAS, batch, tiny, tiny_config

STACKS = [(name, stack) for name in (*FAMILIES, *LLAMAS, *HEIRS) for stack in family(tiny_config(name)).stacks]
KINDS = [(name, stack, kind) for name, stack in STACKS for kind in find_stack(tiny_config(name), stack)[1].attention]


def sizes(layer: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear layer."""
    assert type(layer) in (nn.Linear, Conv1D)
    return (layer.nx, layer.nf) if type(layer) is Conv1D else (layer.in_features, layer.out_features)


def modules(block: nn.Module, inner: tuple[Projection, ...]) -> list[nn.Module]:
    """Those of the layers that there are."""
    names = dict(block.named_modules())
    return [names[layer.path] for layer in inner if layer.path in names]


@pytest.mark.parametrize(("name", "stack", "kind"), KINDS)
def test_attention_is_where_the_facts_say(name: str, stack: str, kind: str) -> None:
    model = tiny(name)
    parts = find_stack(model.config, stack)[1].attention[kind]
    for block in blocks(model, stack):
        module = block.get_submodule(parts.module)
        assert all(getattr(module, attribute) == 4 for attribute in parts.num_heads)
        assert all(getattr(module, attribute) == 32 for attribute in parts.inner_dim)
        for projection in (*parts.queries, *parts.keys):
            grouped = name in ("llama", *LLAMAS) and projection in parts.keys
            width = (16 if grouped else 32) * projection.parts
            assert sizes(block.get_submodule(projection.path)) == (32, width)
        assert sizes(block.get_submodule(parts.output)) == (32, 32)


@pytest.mark.parametrize(("name", "stack"), STACKS)
def test_the_feed_forward_is_where_the_facts_say(name: str, stack: str) -> None:
    model = tiny(name)
    facts = find_stack(model.config, stack)[1].ffn
    assert intermediate_size(model.config) == 64
    for block in blocks(model, stack):
        inner = modules(block, facts.inner)
        assert len(inner) == (2 if name in ("llama", *LLAMAS, "mt5") else 1)
        assert all(sizes(layer) == (32, 64) for layer in inner)
        assert sizes(block.get_submodule(facts.outer)) == (64, 32)


def test_a_gated_t5_has_two_inner_layers() -> None:
    config = tiny_config("t5")
    config.is_gated_act, config.dense_act_fn = True, "gelu_new"
    model = AutoModel.from_config(config)
    for stack in ("encoder", "decoder"):
        assert len(modules(blocks(model, stack)[0], find_stack(config, stack)[1].ffn.inner)) == 2


def test_gpt2_without_a_number_of_units_has_four_times_its_width() -> None:
    config = tiny_config("gpt2")
    config.n_inner = None
    assert intermediate_size(config) == 128
    assert AutoModel.from_config(config).h[0].mlp.c_fc.nf == 128


@pytest.mark.parametrize(("name", "stack"), STACKS)
def test_blocks_stand_in_the_order_in_which_they_run(name: str, stack: str) -> None:
    model, ran = tiny(name, layers=3), []
    for block in dict.fromkeys(blocks(model, stack)):
        block.register_forward_pre_hook(lambda module, args: ran.append(module))
    with torch.no_grad():
        model(**model_inputs(model, batch(name)))
    assert len(ran) == depth(model.config, stack) == 3
    assert all(a is b for a, b in zip(ran, blocks(model, stack), strict=True))


def test_albert_with_two_groups_runs_each_for_half_of_the_layers() -> None:
    config = tiny_config("albert", layers=4)
    config.num_hidden_groups = 2
    model, ran = AutoModelForSequenceClassification.from_config(config).eval(), []
    groups = model.albert.encoder.albert_layer_groups
    for block in groups:
        block.register_forward_pre_hook(lambda module, args: ran.append(module))
    with torch.no_grad():
        model(**model_inputs(model, batch("albert")))
    order = [list(groups).index(block) for block in blocks(model)]
    assert order == [list(groups).index(block) for block in ran] == [0, 0, 1, 1]
    signals = Signals(hidden=frozenset(("encoder", i) for i in range(5)))
    recorded = Recorder(model).trace(batch("albert"), signals).hidden
    expected = model(**model_inputs(model, batch("albert")), output_hidden_states=True).hidden_states
    assert all(torch.equal(recorded["encoder", i], state) for i, state in enumerate(expected))


def project(block: nn.Module, projection: Projection, states: torch.Tensor) -> torch.Tensor:
    """The named layer on the states, [B, S, heads, D]."""
    width = slice(projection.part * 32, (projection.part + 1) * 32) if projection.parts > 1 else slice(None)
    return block.get_submodule(projection.path)(states)[..., width].unflatten(-1, (-1, 8))


@pytest.mark.parametrize(("name", "stack", "kind"), [each for each in KINDS if tiny(each[0])._supports_sdpa])
def test_the_named_projections_make_the_recorded_attention(name: str, stack: str, kind: str) -> None:
    model, seen = tiny(name), []
    parts = find_stack(model.config, stack)[1].attention[kind]
    block = blocks(model, stack)[0]

    def look(module: nn.Module, args: tuple, kwargs: dict) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        seen.append((states, states if kind == "self" else kwargs["key_value_states"]))

    block.get_submodule(parts.module).register_forward_pre_hook(look, with_kwargs=True)
    site = (stack if kind == "self" else kind, 1)
    with torch.no_grad():
        attention = Recorder(model).trace(batch(name), Signals(attention=frozenset({site}))).attention[site]
        queries, keys = seen[0]
        q, k, v = (
            project(block, projection, states).transpose(1, 2)
            for projection, states in zip((*parts.queries, *parts.keys), (queries, keys, keys), strict=True)
        )
    torch.testing.assert_close(attention.value, v)
    norms = dict(block.get_submodule(parts.module).named_children())
    if "q_norm" in norms:
        q, k = norms["q_norm"](q), norms["k_norm"](k)
    if name in ("llama", *LLAMAS):  # its rotation keeps lengths, and does nothing at position 0
        for recorded, made in ((attention.query, q), (attention.key, k)):
            torch.testing.assert_close(recorded.norm(dim=-1), made.norm(dim=-1))
            torch.testing.assert_close(recorded[:, :, 0], made[:, :, 0])
    else:
        torch.testing.assert_close(attention.query, q)
        torch.testing.assert_close(attention.key, k)


def test_a_family_whose_scores_are_bent_cannot_use_sdpa_and_says_so() -> None:
    """Gemma 2 caps its scores, which SDPA cannot: it keeps its own attention, windows and all."""
    model = tiny("gemma2")
    recorder = Recorder(model)
    assert model.config._attn_implementation == "eager"
    with pytest.raises(ValueError, match="the attention of gemma2 cannot be recorded"):
        recorder.trace(batch("gemma2"), Signals(attention=frozenset({("decoder", 1)})))


def test_an_unknown_stack_is_named() -> None:
    config = tiny_config("bert")
    with pytest.raises(ValueError, match="stack: bert has no 'decoder'; it has encoder"):
        find_stack(config, "decoder")
