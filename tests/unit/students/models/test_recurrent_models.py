"""Recurrent networks, held against torch's own on each row alone, and as models that are saved and traced."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from losses.pairs.attention import AttentionKL
from losses.pairs.relations import Relations
from losses.states.hidden import HiddenMSE
from students.kinds.recurrent import GRU, LSTM, RNN
from students.recording.model_io import model_inputs
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.structure.places import select_modules
from tests.helpers.families import batch, everything, tiny
from tests.helpers.students.recurrent import padded, small
from tests.helpers.traces import first


@pytest.mark.parametrize("student", [LSTM(hidden=5), GRU(hidden=5, bidirectional=False), RNN(hidden=5, layers=2)])
def test_neither_padding_nor_the_batch_matter(student):
    model = student.build(tiny("bert"), {0: "a", 1: "b"}, None).eval().double()
    given = model_inputs(model, batch("bert"))
    logits = model(**given).logits
    wider = {name: nn.functional.pad(tensor, (0, 3), value=1) for name, tensor in given.items()}
    wider["attention_mask"][:, -3:] = 0
    torch.testing.assert_close(model(**wider).logits, logits, rtol=0, atol=1e-12)
    for row, length in enumerate(given["attention_mask"].sum(1).tolist()):
        alone = {name: tensor[row : row + 1, :length] for name, tensor in given.items()}
        torch.testing.assert_close(model(**alone).logits[0], logits[row], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="padding must be on the right"):
        model(given["input_ids"], given["attention_mask"].flip(1))


def test_a_class_is_read_off_the_end_of_each_direction():
    model = LSTM(hidden=5).build(tiny("bert"), {0: "a", 1: "b"}, None).eval()
    ids, mask = padded()
    states = model.encoder(ids, mask).last_hidden_state
    ends = torch.stack([torch.cat([states[i, n - 1, :5], states[i, 0, 5:]]) for i, n in enumerate(mask.sum(1))])
    expected = model.classifier(model.dense(ends).relu())
    torch.testing.assert_close(model(ids, mask).logits, expected)


def test_a_language_model_reads_ahead_and_its_table_is_its_head():
    model = GRU(hidden=5).build(tiny("gpt2", head="language"), None, None, AutoModelForCausalLM).eval()
    assert model.lm_head.weight is model.get_input_embeddings().weight and not model.config.bidirectional
    ids = padded()[0]
    changed = ids.clone()
    changed[:, 4:] = 7
    assert torch.equal(model(ids).logits[:, :4], model(changed).logits[:, :4])
    assert not torch.equal(model(ids).logits[:, 4], model(changed).logits[:, 4])


LOAD = """
import sys, torch, transformers
import students
given = torch.load(sys.argv[2])
for head in sys.argv[3:]:
    model = getattr(transformers, head).from_pretrained(sys.argv[1] + "/" + head)
    assert type(model).__module__ == "students.models.recurrent_models", type(model)
    output = model(**given)
    found = torch.stack([output.start_logits, output.end_logits]) if "start_logits" in output else output[0]
    assert torch.equal(found, torch.load(f"{sys.argv[1]}/{head}.pt")), head
"""


def test_saved_models_load_in_another_process(tmp_path):
    heads = ["Model", "ModelForSequenceClassification", "ModelForTokenClassification", "ModelForQuestionAnswering"]
    heads = [f"Auto{head}" for head in (*heads, "ModelForMaskedLM", "ModelForCausalLM")]
    given = model_inputs(tiny("bert"), batch("bert"))  # token types too, as a tokenizer of BERT gives them
    torch.save(given, tmp_path / "given.pt")
    for head in heads:
        cls = getattr(__import__("transformers"), head)
        model = LSTM(hidden=5, projection=3).build(tiny("bert"), None, None, cls).eval()
        output = model(**given)
        logits = torch.stack([output.start_logits, output.end_logits]) if "start_logits" in output else output[0]
        torch.save(logits, tmp_path / f"{head}.pt")
        model.save_pretrained(tmp_path / head)
    command = [sys.executable, "-c", LOAD, tmp_path, tmp_path / "given.pt", *heads]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_states_of_each_layer_are_recorded():
    model = small()
    actual = Recorder(model).trace(batch("bert"), everything(model.config))
    assert {site: state.shape[-1] for site, state in actual.hidden.items()} == {
        ("encoder", 0): 6,
        ("encoder", 1): 16,
        ("encoder", 2): 16,
    }
    given = model_inputs(model, batch("bert"))
    assert torch.equal(actual.hidden["encoder", 2], model.encoder(**given).last_hidden_state)
    early = Recorder(model).trace(batch("bert"), Signals(hidden=frozenset({("encoder", 1)})), stop_early=True)
    assert torch.equal(early.hidden["encoder", 1], actual.hidden["encoder", 1]) and early.logits is None


def test_hidden_losses_know_the_width_of_each_layer():
    loss, student, teacher = HiddenMSE(), small(), tiny("bert", layers=4)
    loss.setup(student.config, teacher.config)
    assert [(p.in_features, p.out_features) for p in loss.projections.values()] == [(6, 32), (16, 32), (16, 32)]
    actual = [
        Recorder(m).trace(batch("bert"), s)
        for m, s in ((student, loss.student_signals), (teacher, loss.teacher_signals))
    ]
    assert torch.isfinite(loss(*actual, batch("bert"), first(loss))[0])
    loss.setup(tiny("bert").config, student.config)  # the other way round
    assert [p.out_features for p in loss.projections.values()] == [6, 16, 16]


@pytest.mark.parametrize("loss", [AttentionKL(), Relations()])
def test_losses_on_attention_are_refused(loss):
    with pytest.raises(ValueError, match="attention: a recurrent network has none"):
        loss.setup(small().config, tiny("bert").config)


def test_every_matrix_can_be_meant():
    model = small(projection=3)
    actual, skipped = select_modules(model, ["recurrence"])
    assert len(actual) == 2 * 2 * 3 and skipped == {}
    assert select_modules(model, ["attention", "ffn"]) == ({}, {})
    assert list(select_modules(model, ["embeddings"])[0]) == ["encoder.embeddings"]
    assert list(select_modules(model, ["head"])[0]) == ["dense", "classifier"]
