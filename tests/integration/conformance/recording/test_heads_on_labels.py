"""The head of a language model computes where labels ask, in every family."""

import copy

import torch

from students.recording.signals import Signals
from students.recording.sparse_lm_head import IGNORED
from students.recording.trace import Recorder
from tests.helpers.families import sparse_labels, tiny

LOGITS = Signals(logits=True)


def test_what_is_asked_is_computed_as_ever(name):
    given = sparse_labels(name)
    labelled, plain = given["labels"] != IGNORED, {key: value for key, value in given.items() if key != "labels"}
    assert labelled.any() and not labelled.all()
    dense = tiny(name, head="lm").eval()
    model = copy.deepcopy(dense)
    expected = Recorder(dense).trace(plain, LOGITS).logits
    width, rows = expected.shape[-1], []
    model.get_output_embeddings().register_forward_hook(lambda head, args, output: rows.append(output.shape))
    sparse = Recorder(model).trace(given, LOGITS).logits
    assert rows == [(int(labelled.sum()), width)]
    torch.testing.assert_close(sparse[labelled], expected[labelled])
    assert sparse.shape == expected.shape and not sparse[~labelled].any()
    for logits in (sparse, expected):
        logits[labelled].square().sum().backward()
    for (key, parameter), dense_parameter in zip(model.named_parameters(), dense.parameters(), strict=True):
        if parameter.grad is not None or dense_parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, dense_parameter.grad, msg=key, rtol=1e-4, atol=1e-5)
