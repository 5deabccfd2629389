"""The head of a language model computes where labels ask, with the numbers and gradients that it has anyway."""

import copy

import pytest
import torch

from students.recording.signals import Signals
from students.recording.sparse_lm_head import IGNORED
from students.recording.trace import Recorder
from tests.helpers.families import FAMILIES, batch, tiny

LOGITS = Signals(logits=True)


def asking(name: str) -> dict[str, torch.Tensor]:
    given = batch(name)
    where = given.get("decoder_input_ids", given["input_ids"])
    draw = torch.Generator().manual_seed(0)
    labels = torch.where(torch.rand(where.shape, generator=draw) < 0.4, where, IGNORED)
    return given | {"labels": labels}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_asked_is_computed_as_ever(name):
    given = asking(name)
    is_labelled, plain = given["labels"] != IGNORED, {key: value for key, value in given.items() if key != "labels"}
    assert is_labelled.any() and not is_labelled.all()
    full_model = tiny(name, head="lm").eval()
    model = copy.deepcopy(full_model)
    expected = Recorder(full_model).trace(plain, LOGITS).logits
    width, rows = expected.shape[-1], []
    model.get_output_embeddings().register_forward_hook(lambda head, args, output: rows.append(output.shape))
    actual = Recorder(model).trace(given, LOGITS).logits
    assert rows == [(int(is_labelled.sum()), width)]
    torch.testing.assert_close(actual[is_labelled], expected[is_labelled])
    assert actual.shape == expected.shape and not actual[~is_labelled].any()
    for logits in (actual, expected):
        logits[is_labelled].square().sum().backward()
    for (key, mine), theirs in zip(model.named_parameters(), full_model.parameters(), strict=True):
        if mine.grad is not None or theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, msg=key, rtol=1e-4, atol=1e-5)


def test_a_row_of_which_nothing_is_asked():
    given = asking("bert")
    given["labels"][:] = IGNORED
    assert not Recorder(tiny("bert", head="lm").eval()).trace(given, LOGITS).logits.any()


def test_other_heads_and_other_calls_are_let_alone():
    given = asking("bert")
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
