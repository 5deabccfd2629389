"""The recorded signals against eager models, and the recorder under everything a training run does to a model."""

import copy
import gc
import json
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from students.families import blocks, depth, family
from students.trace import Attention, Recorder, Signals, Trace, inputs
from tests.families import FAMILIES, batch, tiny

CHECKPOINTING = [name for name in FAMILIES if name != "albert"]  # transformers has none for ALBERT


def everything(config: PretrainedConfig, logits: bool = True) -> Signals:
    """All that a model has."""
    hidden, attention = set(), set()
    for name, stack in family(config).stacks.items():
        layers = depth(config, name)
        hidden |= {(name, layer) for layer in range(layers + 1)}
        for kind in stack.attention:
            attention |= {(name if kind == "self" else kind, layer) for layer in range(1, layers + 1)}
    return Signals(logits=logits, hidden=frozenset(hidden), attention=frozenset(attention))


def first_stack(model: PreTrainedModel) -> str:
    return next(iter(family(model.config).stacks))


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that attends eagerly."""
    eager = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager")
    eager.load_state_dict(model.state_dict())
    return eager.eval()


def builtin(model: PreTrainedModel, data: dict[str, Tensor]) -> tuple[dict, dict]:
    """Hidden states and attentions by site, as transformers itself gives them."""
    with torch.no_grad():
        out = twin(model)(**inputs(model, data), output_hidden_states=True, output_attentions=True)
    found = ({}, {})
    for stack in family(model.config).stacks:
        prefix = f"{stack}_" if model.config.is_encoder_decoder else ""
        found[0].update({(stack, i): state for i, state in enumerate(out[f"{prefix}hidden_states"])})
        found[1].update({(stack, i): state for i, state in enumerate(out[f"{prefix}attentions"], start=1)})
    if model.config.is_encoder_decoder:
        found[1].update({("cross", i): state for i, state in enumerate(out.cross_attentions, start=1)})
    return found


def final_norm(model: PreTrainedModel, stack: str) -> nn.Module:
    norms = {"gpt2": "ln_f", "llama": "norm", "t5": f"{stack}.final_layer_norm"}
    path = norms.get(model.config.model_type)
    return model.base_model.get_submodule(path) if path else nn.Identity()


def agree(model: PreTrainedModel, data: dict[str, Tensor], trace: Trace) -> None:
    hidden, attentions = builtin(model, data)
    assert trace.hidden.keys() == hidden.keys() and trace.attention.keys() == attentions.keys()
    for (stack, layer), state in trace.hidden.items():
        if layer == depth(model.config, stack):
            with torch.no_grad():
                state = final_norm(model, stack)(state)
        valid = trace.valid[stack]
        torch.testing.assert_close(state[valid], hidden[stack, layer][valid], atol=1e-5, rtol=1e-5)
    for (stack, layer), attention in trace.attention.items():
        rows = trace.valid["decoder" if stack == "cross" else stack]
        ours, theirs = attention.probabilities().transpose(1, 2), attentions[stack, layer].transpose(1, 2)
        torch.testing.assert_close(ours[rows], theirs[rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_padded_batch_leaves_what_the_eager_model_gives(name: str) -> None:
    model, data = tiny(name), batch(name)
    with torch.no_grad():
        trace = Recorder(model).trace(data, everything(model.config))
    agree(model, data, trace)
    assert all((valid.sum(1) == torch.tensor([8, 6, 4])).all() for valid in trace.valid.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_without_masks_leaves_what_the_eager_model_gives(name: str) -> None:
    model = tiny(name)
    data = {key: value for key, value in batch(name, size=1).items() if "mask" not in key}
    with torch.no_grad():
        trace = Recorder(model).trace(data, everything(model.config))
    agree(model, data, trace)
    assert all(valid.all() and valid.shape == (1, 8) for valid in trace.valid.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_recording_changes_no_logits_and_leaves_sdpa_at_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = tiny(name), batch(name)
    with torch.no_grad():
        plain = model(**inputs(model, data)).logits
    calls, sdpa = [], nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        calls.append(1)
        return sdpa(*args, **kwargs)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    recorder, signals = Recorder(model), everything(model.config)
    with torch.no_grad():
        traced = recorder.trace(data, signals).logits
        assert len(calls) == len(signals.attention)
        untraced = model(**inputs(model, data)).logits
        recorder.close()
        closed = model(**inputs(model, data)).logits
    for logits in (traced, untraced, closed):
        torch.testing.assert_close(logits, plain, atol=1e-6, rtol=0)
    assert model.config._attn_implementation == "sdpa"
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks(model))


@pytest.mark.parametrize("name", FAMILIES)
def test_only_what_is_asked_is_kept(name: str) -> None:
    model, data = tiny(name, layers=3), batch(name)
    stack = first_stack(model)
    recorder, signals = Recorder(model), Signals(hidden=frozenset({(stack, 2)}), attention=frozenset({(stack, 3)}))
    whole, trace = recorder.trace(data, everything(model.config)), recorder.trace(data, signals)
    assert trace.logits is None and list(trace.hidden) == [(stack, 2)] and list(trace.attention) == [(stack, 3)]
    assert torch.equal(trace.hidden[stack, 2], whole.hidden[stack, 2])
    assert torch.equal(trace.attention[stack, 3].query, whole.attention[stack, 3].query)
    assert not recorder.trace(data, Signals(logits=True)).hidden


def test_gpt2_padded_on_the_left_gives_zeros_and_no_nan_where_nothing_is_visible() -> None:
    model, data = tiny("gpt2"), batch("gpt2")
    data = {key: data[key].flip(1) for key in ("input_ids", "attention_mask")}
    attention = Recorder(model).trace(data, everything(model.config)).attention["decoder", 2]
    probabilities = attention.probabilities()
    blind = ~attention.visible().any(-1)[:, 0]
    assert blind.sum() == 2 + 4
    assert (probabilities.transpose(1, 2)[blind] == 0).all()
    torch.testing.assert_close(probabilities.sum(-1).transpose(1, 2)[~blind], torch.ones(18, 4))
    probabilities.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("autocast", [False, True])
def test_scores_and_probabilities_against_float64(autocast: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value, bias = (torch.randn(1, heads, *shape, generator=generator)
                               for heads, shape in ((4, (3, 8)), (2, (3, 8)), (2, (3, 8)), (4, (3, 3))))
    attention = Attention(query, key, value, mask=None, scale=0.5, bias=bias, causal=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        scores, probabilities = attention.scores(), attention.probabilities()
    assert scores.dtype == probabilities.dtype == torch.float32
    for head in range(4):
        for i in range(3):
            q, b = query[0, head, i].double(), bias[0, head, i].double()
            row = torch.stack([q.dot(key[0, head // 2, j].double()) * 0.5 + b[j] for j in range(3)])
            torch.testing.assert_close(scores[0, head, i].double(), row, atol=1e-6, rtol=1e-6)
            weights = row[: i + 1].exp() / row[: i + 1].exp().sum()
            expected = torch.cat([weights, torch.zeros(2 - i, dtype=torch.float64)])
            torch.testing.assert_close(probabilities[0, head, i].double(), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(attention.repeated_value()[:, 1], value[:, 0])


def test_signals_join_and_know_when_they_are_empty() -> None:
    a, b = Signals(hidden=frozenset({("encoder", 0)})), Signals(logits=True, attention=frozenset({("cross", 1)}))
    assert a | b == Signals(True, frozenset({("encoder", 0)}), frozenset({("cross", 1)}))
    assert a and b and not Signals()


@pytest.mark.parametrize(("name", "hidden", "attention", "stops", "ran"), [
    ("bert", {("encoder", 0)}, set(), True, 0),
    ("bert", {("encoder", 2)}, {("encoder", 1)}, True, 2),
    ("bert", {("encoder", 2)}, set(), False, 4),
    ("albert", set(), {("encoder", 3)}, True, 3),
    ("gpt2", {("decoder", 1)}, set(), True, 1),
    ("t5", {("encoder", 4)}, {("encoder", 1)}, True, 4),
    ("t5", {("encoder", 4)}, {("cross", 1)}, True, 5),
    ("t5", {("decoder", 0)}, set(), True, 4),
])
def test_a_pass_stops_after_the_last_block_that_is_needed(
    name: str, hidden: set, attention: set, stops: bool, ran: int
) -> None:
    model, data = tiny(name, layers=4), batch(name)
    recorder, calls = Recorder(model), []
    for stack in family(model.config).stacks:
        for block in dict.fromkeys(blocks(model, stack)):
            block.register_forward_pre_hook(lambda *_: calls.append(1))
    signals = Signals(hidden=frozenset(hidden), attention=frozenset(attention))
    trace = recorder.trace(data, signals, stop_early=stops)
    assert len(calls) == ran
    assert trace.hidden.keys() == hidden and trace.attention.keys() == attention
    calls.clear()
    recorder.trace(data, signals | Signals(logits=True), stop_early=True)
    assert len(calls) == 4 * len(family(model.config).stacks)


@pytest.mark.parametrize(("signals", "message"), [
    (Signals(hidden=frozenset({("encoder", 3)})), "hidden: the encoder has layers 0 to 2, not 3"),
    (Signals(attention=frozenset({("encoder", 0)})), "attention: the encoder has layers 1 to 2, not 0"),
    (Signals(attention=frozenset({("cross", 1)})), "attention: bert has no 'cross', it has encoder"),
    (Signals(hidden=frozenset({("decoder", 1)})), "hidden: bert has no 'decoder', it has encoder"),
])
def test_a_site_that_does_not_exist_is_named_with_the_depth(signals: Signals, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recorder(tiny("bert")).trace(batch("bert"), signals)


def test_a_model_without_sdpa_gives_hidden_states_and_refuses_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin(tiny("bert"))
    monkeypatch.setattr(type(model), "_supports_sdpa", False)
    recorder = Recorder(model)
    assert model.config._attn_implementation == "eager"
    assert recorder.trace(batch("bert"), Signals(hidden=frozenset({("encoder", 1)}))).hidden
    with pytest.raises(ValueError, match="attention: bert cannot use SDPA"):
        recorder.trace(batch("bert"), Signals(attention=frozenset({("encoder", 1)})))


def test_what_does_not_arrive_is_an_error() -> None:
    model = tiny("bert")
    recorder = Recorder(model)
    recorder.close()
    with pytest.raises(RuntimeError, match="encoder"):
        recorder.trace(batch("bert"), Signals(hidden=frozenset({("encoder", 1)})))
    with pytest.raises(RuntimeError, match="logits"):
        Recorder(model.base_model).trace(batch("bert"), Signals(logits=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_in_train_mode_attention_is_without_dropout(name: str) -> None:
    model, data = tiny(name).train(), batch(name)
    recorder, signals = Recorder(model), everything(model.config)
    torch.manual_seed(0)
    first, second = recorder.trace(data, signals), recorder.trace(data, signals)
    if name != "llama":  # it has no dropout
        assert not torch.equal(first.logits, second.logits)
    for attention in first.attention.values():
        rows = attention.probabilities().sum(-1)
        torch.testing.assert_close(rows, torch.ones_like(rows))


def test_autocast_records_half_precision_and_scores_in_float32() -> None:
    model = tiny("bert")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention = Recorder(model).trace(batch("bert"), everything(model.config)).attention["encoder", 2]
        scores = attention.scores()
    assert attention.query.dtype == torch.bfloat16 and scores.dtype == torch.float32
    expected = attention.query.double() @ attention.key.double().mT * 8**-0.5
    torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-5)


def distance(trace: Trace) -> Tensor:
    """A loss that every recorded tensor has a part in, attention twice as it is used twice."""
    parts = [state.square().mean() for state in trace.hidden.values()]
    for attention in trace.attention.values():
        parts += [attention.scores().square().mean(), attention.probabilities().square().sum(-1).mean(),
                  attention.value.square().mean()]
    return sum(parts) if trace.logits is None else sum(parts) + trace.logits.square().mean()


def gradients(model: PreTrainedModel, trace: Trace) -> dict[str, Tensor]:
    model.zero_grad()
    distance(trace).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CHECKPOINTING)
@pytest.mark.parametrize("logits", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(name: str, logits: bool) -> None:
    model, data = tiny(name).train(), batch(name)
    recorder, signals = Recorder(model), everything(model.config, logits)
    torch.manual_seed(0)
    expected = gradients(model, recorder.trace(data, signals))
    model.activation_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(0)
    trace = recorder.trace(data, signals)
    kept = dict(trace.hidden), dict(trace.attention)
    actual = gradients(model, trace)
    assert (trace.hidden, trace.attention) == kept  # the blocks that ran again in backward left nothing
    assert actual.keys() == expected.keys() and any("query" in key or ".q" in key or "attn" in key for key in actual)
    for key, gradient in expected.items():
        torch.testing.assert_close(actual[key], gradient, atol=1e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


def test_reentrant_checkpointing_would_lose_gradients_and_is_refused() -> None:
    model = tiny("bert").train()
    model.activation_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    with pytest.raises(ValueError, match="use_reentrant"):
        Recorder(model).trace(batch("bert"), Signals(attention=frozenset({("encoder", 1)})))


def test_a_trace_that_is_dropped_is_freed_under_gradient_checkpointing() -> None:
    model = tiny("bert").train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    trace = Recorder(model).trace(batch("bert"), everything(model.config))
    query = weakref.ref(trace.attention["encoder", 1].query)
    del trace
    gc.collect()
    assert query() is None


@pytest.mark.parametrize(("name", "layers"), [("bert", 1), ("albert", 2)])
def test_a_compiled_model_leaves_the_same_in_one_graph(name: str, layers: int) -> None:
    model, data = tiny(name, layers=layers), batch(name)
    recorder, signals = Recorder(model), everything(model.config)
    expected = recorder.trace(data, signals)
    wanted = gradients(model, expected)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model.compile(backend="aot_eager")
    trace = recorder.trace(data, signals)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(trace.logits, expected.logits)
    for site, state in expected.hidden.items():
        torch.testing.assert_close(trace.hidden[site], state)
    for site, attention in expected.attention.items():
        torch.testing.assert_close(trace.attention[site].probabilities(), attention.probabilities())
    for key, gradient in gradients(model, trace).items():
        torch.testing.assert_close(gradient, wanted[key], atol=1e-5, rtol=1e-4)


def test_lora_adapters_are_recorded_and_trained() -> None:
    model, data = tiny("bert"), batch("bert")
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["query", "value"]))
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    wrapped.eval()
    given = inputs(model, data)
    recorder, signals = Recorder(wrapped.get_base_model()), everything(model.config)
    trace = recorder.trace(data, signals)
    torch.testing.assert_close(trace.logits, wrapped(**given).logits, atol=1e-6, rtol=0)
    with wrapped.disable_adapter():
        bare = recorder.trace(data, signals)
    assert not torch.allclose(trace.attention["encoder", 1].query, bare.attention["encoder", 1].query, atol=0.1)
    found = gradients(wrapped, recorder.trace(data, Signals(attention=signals.attention)))
    assert found and all("lora" in name for name in found)


def test_a_copy_of_a_recorded_model_is_free_of_the_first_recorder() -> None:
    model, data = tiny("albert", layers=3), batch("albert")
    recorder, signals = Recorder(model), everything(model.config)
    expected = recorder.trace(data, signals)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    second = Recorder(other)
    trace = second.trace(data, signals)
    agree(other, data, trace)
    again = recorder.trace(data, signals)
    assert torch.equal(again.logits, expected.logits) and not torch.equal(trace.logits, expected.logits)


def test_a_recorded_model_saves_as_a_stock_model(tmp_path) -> None:
    model = tiny("bert")
    Recorder(model)
    model.save_pretrained(tmp_path)
    assert "recording" not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"


class Student(nn.Module):
    """As a training module holds a model: it traces and compares, inside of what DDP wraps."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.recorder = Recorder(model)

    def forward(self, data: dict[str, Tensor]) -> Tensor:
        return distance(self.recorder.trace(data, everything(self.model.config)))


def test_ddp_gives_the_gradients_of_the_bare_model(tmp_path) -> None:
    model, data = tiny("distilbert"), batch("distilbert")
    recorder = Recorder(model)
    expected = gradients(model, recorder.trace(data, everything(model.config)))
    recorder.close()
    model.zero_grad()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Student(model))
        for _ in range(2):  # the second pass fails if the first left a parameter unreduced
            model.zero_grad()
            wrapped(data).backward()
    finally:
        torch.distributed.destroy_process_group()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-5)
