"""What the layers of every family read is counted in any batches."""

import torch

from students.recording.input_grams import collect_input_grams
from tests.helpers.families import batch, tiny


def test_what_layers_read_is_counted_in_any_batches(name):
    model, rows = tiny(name).train(), batch(name)
    rows.pop("labels", None)
    layers = [m for m in model.modules() if type(m).__name__ in ("Linear", "Conv1D")]
    grams = collect_input_grams(model, layers, [rows])
    parts = [{key: value[part] for key, value in rows.items()} for part in (slice(1), slice(1, None))]
    halves = collect_input_grams(model, layers, parts)
    assert model.training and grams and grams.keys() == halves.keys() < set(layers)
    for layer, gram in grams.items():
        torch.testing.assert_close(gram, halves[layer], rtol=1e-4, atol=1e-4)
