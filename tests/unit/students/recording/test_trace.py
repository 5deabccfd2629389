"""The recorded signals against those of transformers' eager models; what is kept, and where a pass stops."""

import copy

import pytest
import torch

from students.families.families import blocks, family
from students.recording.model_io import model_inputs
from students.recording.signals import Signals
from students.recording.trace import Recorder
from tests.helpers.families import batch, everything, tiny
from tests.helpers.students.eager import agree, twin


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
