"""The recorded signals against those of transformers' eager models; what is kept, and where a pass stops."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from students.families.families import blocks, depth, family
from students.recording.model_io import model_inputs
from students.recording.signals import Signals, Trace
from students.recording.trace import Recorder
from tests.helpers.families import FAMILIES, batch, everything, tiny


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
        out = twin(model)(**model_inputs(model, data), output_hidden_states=True, output_attentions=True)
    actual = ({}, {})
    for stack in family(model.config).stacks:
        prefix = f"{stack}_" if model.config.is_encoder_decoder else ""
        actual[0].update({(stack, i): state for i, state in enumerate(out[f"{prefix}hidden_states"])})
        actual[1].update({(stack, i): state for i, state in enumerate(out[f"{prefix}attentions"], start=1)})
    if model.config.is_encoder_decoder:
        actual[1].update({("cross", i): state for i, state in enumerate(out.cross_attentions, start=1)})
    return actual


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
def test_recording_changes_no_logits_and_leaves_sdpa_at_work(name: str, monkeypatch) -> None:
    model, data = tiny(name), batch(name)
    with torch.no_grad():
        plain = model(**model_inputs(model, data)).logits
    calls, sdpa = [], nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        calls.append(1)
        return sdpa(*args, **kwargs)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    recorder, signals = Recorder(model), everything(model.config)
    with torch.no_grad():
        traced = recorder.trace(data, signals).logits
        assert len(calls) == len(signals.attention)
        untraced = model(**model_inputs(model, data)).logits
        recorder.close()
        closed = model(**model_inputs(model, data)).logits
    for logits in (traced, untraced, closed):
        torch.testing.assert_close(logits, plain, atol=1e-6, rtol=0)
    assert model.config._attn_implementation == "sdpa"
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks(model))


@pytest.mark.parametrize("name", FAMILIES)
def test_only_what_is_asked_is_kept(name: str) -> None:
    model, data = tiny(name, layers=3), batch(name)
    stack = first_stack(model)
    signals = Signals(hidden=frozenset({(stack, 2)}), attention=frozenset({(stack, 3)}))
    recorder = Recorder(model)
    whole, trace = recorder.trace(data, everything(model.config)), recorder.trace(data, signals)
    assert trace.logits is None
    assert list(trace.hidden) == [(stack, 2)] and list(trace.attention) == [(stack, 3)]
    assert torch.equal(trace.hidden[stack, 2], whole.hidden[stack, 2])
    assert torch.equal(trace.attention[stack, 3].query, whole.attention[stack, 3].query)
    assert not recorder.trace(data, Signals(logits=True)).hidden


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_no_cache_keeps_keys_and_values_alive(name: str) -> None:
    model, outputs = tiny(name), []
    model.register_forward_hook(lambda module, args, output: outputs.append(output))
    assert model(**model_inputs(model, batch(name))).past_key_values is not None
    Recorder(model).trace(batch(name), Signals(logits=True))
    assert outputs[1].past_key_values is None


def test_gpt2_padded_on_the_left_gives_zeros_and_no_nan_where_nothing_is_visible() -> None:
    model, data = tiny("gpt2"), batch("gpt2")
    data = {key: data[key].flip(1) for key in ("input_ids", "attention_mask")}
    attention = Recorder(model).trace(data, everything(model.config)).attention["decoder", 2]
    probabilities = attention.probabilities()
    blind = ~attention.visible().any(-1)[:, 0]
    assert blind.sum() == 2 + 4
    assert (probabilities.transpose(1, 2)[blind] == 0).all()
    torch.testing.assert_close(probabilities.sum(-1).transpose(1, 2)[~blind], torch.ones(18, 4))
    with torch.autograd.set_detect_anomaly(True):
        probabilities.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("name", "hidden", "attention", "stops", "ran"),
    [
        ("bert", {("encoder", 0)}, set(), True, 0),
        ("bert", {("encoder", 2)}, {("encoder", 1)}, True, 2),
        ("bert", {("encoder", 2)}, set(), False, 4),
        ("albert", set(), {("encoder", 3)}, True, 3),
        ("gpt2", {("decoder", 1)}, set(), True, 1),
        ("t5", {("encoder", 4)}, {("encoder", 1)}, True, 4),
        ("t5", {("encoder", 4)}, {("cross", 1)}, True, 5),
        ("t5", {("decoder", 0)}, set(), True, 4),
    ],
)
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


def test_a_model_without_sdpa_gives_hidden_states_and_refuses_attention(monkeypatch) -> None:
    model = twin(tiny("bert"))
    monkeypatch.setattr(type(model), "_supports_sdpa", False)
    recorder = Recorder(model)
    assert model.config._attn_implementation == "eager"
    assert recorder.trace(batch("bert"), Signals(hidden=frozenset({("encoder", 1)}))).hidden
    with pytest.raises(ValueError, match="the attention of bert cannot be recorded: it cannot use SDPA"):
        recorder.trace(batch("bert"), Signals(attention=frozenset({("encoder", 1)})))


def test_what_does_not_arrive_is_an_error() -> None:
    model = tiny("bert")
    recorder = Recorder(model)
    recorder.close()
    with pytest.raises(RuntimeError, match="encoder"):
        recorder.trace(batch("bert"), Signals(hidden=frozenset({("encoder", 1)})))
    with pytest.raises(RuntimeError, match="logits"):
        Recorder(model.base_model).trace(batch("bert"), Signals(logits=True))


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
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"
