"""Students that exist already, where they are looked for, and the labels they get."""

import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertForMaskedLM

from students.kinds.student import Pretrained, resolve
from tests.helpers.families import batch, tiny

LABELS = {0: "bad", 1: "good", 2: "so so"}


@pytest.fixture
def saved(tmp_path):
    """A folder with a half-precision classifier of three labels, and that model in float32."""
    model = tiny("bert").half()
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model", model.float()


def test_a_folder_is_loaded_in_float32_and_train_mode(saved):
    folder, model = saved
    student = Pretrained(model=str(folder)).build(None, None, None)
    assert student.training
    assert {weight.dtype for weight in student.parameters()} == {torch.float32}
    assert student.config.dtype == torch.float32
    inputs = batch("bert")
    with torch.no_grad():
        torch.testing.assert_close(student.eval()(**inputs).logits, model(**inputs).logits)


def test_a_run_folder_means_its_student(saved, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    saved[0].rename(run / "student")
    assert resolve(str(run)) == str(run / "student")
    assert Pretrained(model=str(run)).build(None, None, None).config.num_labels == 3


def test_outputs_that_are_loaded_keep_their_names(saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        student = Pretrained(model=str(saved[0])).build(None, LABELS, "single_label_classification")
    assert student.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert student.config.problem_type == "single_label_classification"
    assert torch.equal(student.classifier.weight, saved[1].classifier.weight)


def test_a_new_head_starts_at_random_with_the_names_of_the_task(saved):
    with pytest.warns(UserWarning, match="newly initialized: classifier.bias, classifier.weight"):
        student = Pretrained(model=str(saved[0]), head="new").build(None, LABELS, "single_label_classification")
    assert student.config.id2label == LABELS
    assert student.config.label2id == {"bad": 0, "good": 1, "so so": 2}
    assert not torch.equal(student.classifier.weight, saved[1].classifier.weight)
    assert float(student.classifier.weight.detach().std()) == pytest.approx(student.config.initializer_range, rel=0.5)
    assert torch.equal(student.bert.pooler.dense.weight, saved[1].bert.pooler.dense.weight)


def test_a_head_of_tokens_is_never_new(tmp_path):
    BertForMaskedLM(tiny("bert").config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="head: the model has an LM head"):
        Pretrained(model=str(tmp_path), head="new").build(None, None, None, AutoModelForMaskedLM)


def test_another_number_of_labels_gives_a_fresh_head_and_a_warning(saved):
    with pytest.warns(UserWarning, match="newly initialized: classifier.bias, classifier.weight"):
        student = Pretrained(model=str(saved[0])).build(None, None, "regression")
    assert student.config.num_labels == 1 and student.config.problem_type == "regression"
    assert student(**batch("bert") | {"labels": torch.zeros(3)}).logits.shape == (3, 1)
    assert torch.equal(student.bert.pooler.dense.weight, saved[1].bert.pooler.dense.weight)


def test_a_checkpoint_without_a_head_gives_a_warning(saved, tmp_path):
    saved[1].bert.save_pretrained(tmp_path / "bare")
    with pytest.warns(UserWarning, match="newly initialized: classifier.bias, classifier.weight"):
        Pretrained(model=str(tmp_path / "bare")).build(None, LABELS, "single_label_classification")


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^model: .*holds no model") as caught:
        Pretrained(model=str(tmp_path)).build(None, None, None)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_refused_before_the_hub_is_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    for model in ("runs/lost", "./lost", str(tmp_path / "lost"), "a/b/c"):
        with pytest.raises(ValueError, match=r"^model: there is no folder"):
            Pretrained(model=model).check(None)


def test_a_hub_name_is_left_as_it_is():
    assert resolve("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"
    assert resolve("gpt2") == "gpt2"


@pytest.mark.skipif(not Path("../shared").exists(), reason="the real model is not here")
def test_a_real_checkpoint():
    student = Pretrained(model="../shared/models/minilm-l6-sst2").build(None, None, None)
    assert (student.dtype, student.training, student.config.num_hidden_layers) == (torch.float32, True, 6)
