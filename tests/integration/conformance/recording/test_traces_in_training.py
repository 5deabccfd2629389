"""Attention that is recorded in training is without dropout, in every family."""

import torch

from students.recording.trace import Recorder
from tests.helpers.families import batch, everything, tiny


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
