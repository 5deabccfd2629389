"""Heads of students with another attention are cut out."""

import torch
from transformers import AutoModelForSequenceClassification

from prune_schedules.structure.cut import cut
from students.structure.units import heads, shrink
from tests.helpers.students.attentions import EACH, EVERY, logits, long, student


@EVERY
def test_heads_are_cut_out(kind, name, tmp_path):
    """What is left of the attention goes on as before."""
    model, inputs = student(kind, name), long(name)
    units = heads(model)[-1]
    with torch.no_grad():
        for part in units.slices:
            rows = getattr(part.module, part.name).movedim(part.axis, 0)
            rows[part.start : part.start + part.size] = 0
    expected = logits(model, inputs)
    report = cut(model)
    assert report.units[units.name] == (units.count, units.count - 1)
    torch.testing.assert_close(logits(model, inputs), expected, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded, inputs), expected, rtol=0, atol=1e-5)


@EACH
def test_all_heads_of_a_layer_are_cut_out(kind, tmp_path):
    model, inputs = student(kind), long("bert")
    units = heads(model)[0]
    shrink(units, torch.zeros(units.count, dtype=torch.bool))
    assert logits(model, inputs).isfinite().all()
