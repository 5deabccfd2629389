"""The outputs of a trained head in another order, in every family."""

import pytest
import torch

import students  # noqa: F401 — our own models
from students.structure.outputs import reorder_outputs
from tests.helpers.families import batch, tiny


@pytest.mark.parametrize("labels", [2, 3])
def test_logits_go_with_their_names(name, labels):
    model = tiny(name, labels=labels).eval()
    model.config.id2label = {i: f"class {i}" for i in range(labels)}
    given = {name: value for name, value in batch(name).items() if name != "labels"}
    order = [1, 0] if labels == 2 else [2, 0, 1]
    with torch.no_grad():
        before = model(**given).logits
        reorder_outputs(model, order)
        torch.testing.assert_close(model(**given).logits, before[:, order])
    assert model.config.id2label == {i: f"class {output}" for i, output in enumerate(order)}
    assert model.config.label2id == {f"class {output}": i for i, output in enumerate(order)}
    assert not model.training
