"""Every other attention in every family that can have it: padded rows, no full attention, recorded."""

import copy

import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from losses.pairs.attention import AttentionKL, AttentionScores
from losses.pairs.relations import Relations
from prune_schedules.structure.cut import cut
from students.families.families import family
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.structure.units import heads
from tests.helpers.families import everything
from tests.helpers.students.attentions import EVERY, logits, long, student
from tests.helpers.traces import first

Full = None
"""Full attention, and the same places."""


@EVERY
def test_a_row_is_the_same_alone_and_beside_longer_ones(kind, name):
    model, inputs = student(kind, name), long(name, size=40)
    together = logits(model, inputs)
    for row in (1, 30, 39):
        length = int(inputs["attention_mask"][row].sum())
        alone = {key: value[row : row + 1, :length] for key, value in inputs.items() if value.ndim == 2}
        torch.testing.assert_close(logits(model, alone)[0], together[row], rtol=0, atol=1e-5)


@EVERY
def test_full_attention_never_comes_back(kind, name, tmp_path):
    """Whoever asks for it: an exporter, a recorder, a loader; of the model, of the one inside, of the config."""
    model, inputs = student(kind, name), long(name)
    expected = logits(model, inputs)
    assert (expected - logits(student(Full, name), inputs)).abs().max() > 1e-3
    model.set_attn_implementation("eager")
    torch.testing.assert_close(logits(model, inputs), expected, rtol=0, atol=1e-5)
    model.base_model.set_attn_implementation("sdpa")
    assert torch.equal(logits(model, inputs), expected)
    model.config._attn_implementation = "sdpa"
    assert torch.equal(logits(model, inputs), expected)
    recorder = Recorder(model)
    with torch.no_grad():
        assert torch.equal(recorder.trace(inputs, everything(model.config)).logits, expected)
        assert torch.equal(recorder.trace(inputs, Signals(logits=True)).logits, expected)
    recorder.close()
    assert torch.equal(logits(model, inputs), expected)
    assert torch.equal(logits(copy.deepcopy(model), inputs), expected)
    model.save_pretrained(tmp_path)
    for implementation in (None, "eager", "sdpa"):
        loaded, report = AutoModelForSequenceClassification.from_pretrained(
            tmp_path, attn_implementation=implementation, output_loading_info=True
        )
        assert type(loaded) is type(model) and not any(report.values()), report
        torch.testing.assert_close(logits(loaded, inputs), expected, rtol=0, atol=1e-5)
    bare = AutoModel.from_pretrained(tmp_path).eval()
    inputs.pop("labels")
    with torch.no_grad():
        states = [inner(**inputs).last_hidden_state for inner in (model.base_model, bare)]
    assert torch.equal(*states)


@EVERY
def test_no_mask_over_pairs_is_made(kind, name, monkeypatch):
    """It would cost what is to be saved; tokens that are no text are hidden all the same."""
    model = student(kind, name)
    for module in ("students.attention.interface", "transformers.masking_utils"):
        monkeypatch.setattr(f"{module}.sdpa_mask", None)
    assert logits(model, long(name)).isfinite().all()
    assert logits(model, {"input_ids": long(name)["input_ids"][:1]}).isfinite().all()


@EVERY
def test_what_losses_compare_is_what_attention_is_given(kind, name):
    """Queries, keys and values of the first layer are the teacher's, so losses on them are nothing there."""
    teacher = student(Full, name)
    model, inputs = student(kind, name), long(name)
    stack = next(iter(family(teacher.config).stacks))
    signals = Signals(attention=frozenset({(stack, 1)}))
    traces = [Recorder(traced).trace(inputs, signals) for traced in (model, teacher)]
    student_attention, teacher_attention = (trace.attention[stack, 1] for trace in traces)
    torch.testing.assert_close(student_attention.probabilities(), teacher_attention.probabilities())
    traces = [Recorder(traced).trace(inputs, everything(traced.config)) for traced in (model, teacher)]
    for loss, nothing in (
        (AttentionScores(layers={1: 1}), True),
        (AttentionKL(layers={1: 1}), True),
        (Relations(layers={1: 1}), True),
        (Relations(layers={2: 2}), False),
    ):
        loss.setup(model.config, teacher.config)
        total, count = loss(*traces, inputs, first(loss))
        assert total.isfinite() and (total / count < 1e-5) == nothing


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
