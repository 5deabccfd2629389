"""The outputs of a trained head in another order: rows go with their names, and logits prove it."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

import students  # noqa: F401 — our own models
from students.models.recurrent_models import RecurrentConfig
from students.recording.model_io import output_logits
from students.structure.outputs import reorder_outputs
from tests.helpers.families import tiny


def test_a_recurrent_network_and_a_head_on_tokens():
    config = RecurrentConfig(vocab_size=30, embedding_size=8, units=8, num_labels=3)
    given = {"input_ids": torch.randint(4, 30, (2, 7))}
    for head in (AutoModelForSequenceClassification, AutoModelForTokenClassification):
        model = head.from_config(config).eval()
        with torch.no_grad():
            before = output_logits(model(**given))
            reorder_outputs(model, [2, 0, 1])
            torch.testing.assert_close(output_logits(model(**given)), before[..., [2, 0, 1]])


def test_outputs_that_no_layer_has_are_refused():
    model = tiny("bert", labels=2)
    model.classifier = torch.nn.Sequential(torch.nn.Linear(model.config.hidden_size, 4), Half())
    with pytest.raises(ValueError, match="stand in another order than the run's, and cannot be put in it"):
        reorder_outputs(model, [1, 0])


class Half(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values[..., :2]
