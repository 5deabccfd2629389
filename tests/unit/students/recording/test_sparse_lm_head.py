"""The head of a language model computes where labels ask, with the numbers and gradients that it has anyway."""

import torch

from students.recording.signals import Signals
from students.recording.sparse_lm_head import IGNORED
from students.recording.trace import Recorder
from tests.helpers.families import batch, sparse_labels, tiny

LOGITS = Signals(logits=True)


def test_a_row_of_which_nothing_is_asked():
    given = sparse_labels("bert")
    given["labels"][:] = IGNORED
    assert not Recorder(tiny("bert", head="lm").eval()).trace(given, LOGITS).logits.any()


def test_other_heads_and_other_calls_are_let_alone():
    given = sparse_labels("bert")
    model = tiny("bert").eval()
    plain = Recorder(model).trace(batch("bert"), LOGITS).logits
    assert torch.equal(Recorder(model).trace(given, LOGITS).logits, plain)
    model = tiny("bert", head="lm").eval()
    expected = model(input_ids=given["input_ids"]).logits
    recorder = Recorder(model)
    recorder.trace(given, LOGITS)
    assert torch.equal(model(input_ids=given["input_ids"]).logits, expected)
    recorder.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
