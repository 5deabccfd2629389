"""The recorded signals of every family are those of transformers' eager models."""

import torch
from torch import nn
from transformers import PreTrainedModel

from students.families.families import blocks, family
from students.recording.model_io import model_inputs
from students.recording.signals import Signals
from students.recording.trace import Recorder
from tests.helpers.families import batch, everything, tiny
from tests.helpers.students.eager import agree


def first_stack(model: PreTrainedModel) -> str:
    return next(iter(family(model.config).stacks))


def test_a_padded_batch_leaves_what_the_eager_model_gives(name: str) -> None:
    model, data = tiny(name), batch(name)
    with torch.no_grad():
        trace = Recorder(model).trace(data, everything(model.config))
    agree(model, data, trace)
    assert all((valid.sum(1) == torch.tensor([8, 6, 4])).all() for valid in trace.valid.values())


def test_a_batch_without_masks_leaves_what_the_eager_model_gives(name: str) -> None:
    model = tiny(name)
    data = {key: value for key, value in batch(name, size=1).items() if "mask" not in key}
    with torch.no_grad():
        trace = Recorder(model).trace(data, everything(model.config))
    agree(model, data, trace)
    assert all(valid.all() and valid.shape == (1, 8) for valid in trace.valid.values())


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


def test_only_what_is_asked_is_kept(name: str) -> None:
    model, data = tiny(name, layers=3), batch(name)
    stack = first_stack(model)
    signals = Signals(hidden=frozenset({(stack, 2)}), attention=frozenset({(stack, 3)}))
    recorder = Recorder(model)
    complete, trace = recorder.trace(data, everything(model.config)), recorder.trace(data, signals)
    assert trace.logits is None
    assert list(trace.hidden) == [(stack, 2)] and list(trace.attention) == [(stack, 3)]
    assert torch.equal(trace.hidden[stack, 2], complete.hidden[stack, 2])
    assert torch.equal(trace.attention[stack, 3].query, complete.attention[stack, 3].query)
    assert not recorder.trace(data, Signals(logits=True)).hidden
