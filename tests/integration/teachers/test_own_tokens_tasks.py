"""Which tasks a teacher can read in tokens of its own: those whose outputs stand for a whole text."""

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from distill import run
from distill.config.errors import ConfigError
from tests.helpers.students.other_tokenizers import CONFIG, save_byte_level_teacher
from tests.helpers.worlds import save_data, save_teacher
from tests.integration.teachers.test_own_tokens_runs import prepared

TASKS = {
    "regression": "{kind: LogitsMSE}",
    "multi_label": "{kind: Logits}",
}


@pytest.mark.parametrize("task", TASKS)
def test_other_tasks_on_whole_texts(task, tmp_path):
    (tmp_path / "data").mkdir()
    save_data(task, tmp_path / "data", rows=24)
    save_teacher(task, tmp_path / "bert", layers=1)
    save_byte_level_teacher(tmp_path / "gpt2", [] if task == "regression" else ["thing", "praise", "blame"])
    text = CONFIG.format(folder=tmp_path, data=tmp_path / "data").replace("classification", task)
    text = text.replace("{kind: Logits, temperature: 2.0}", TASKS[task])
    if task == "regression":
        config = AutoConfig.from_pretrained(tmp_path / "gpt2", num_labels=1)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "gpt2")
    (tmp_path / "x.yaml").write_text(text)
    given = {"vocabulary": "seen"} if task == "regression" else {"task.label": "labels"}
    report = run(tmp_path / "x.yaml", **given)
    assert report.models["teacher"].parameters != report.models["student"].parameters
    assert any("tokens of its own" in note for note in report.notes)


@pytest.mark.parametrize("task", ["token_classification", "question_answering", "causal_lm"])
def test_tasks_on_tokens_say_why_both_must_read_the_same(task, tmp_path):
    (tmp_path / "data").mkdir()
    save_data(task, tmp_path / "data", rows=24)
    save_teacher(task, tmp_path / "teacher")
    save_teacher(task, tmp_path / "student")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    tokenizer.add_tokens(["arm", "fil"])
    tokenizer.backend_tokenizer.normalizer.lowercase = False
    tokenizer.save_pretrained(tmp_path / "student")
    text = CONFIG.format(folder=tmp_path, data=tmp_path / "data").replace("name: classification", f"name: {task}")
    text = text.replace(f"{tmp_path}/gpt2", f"{tmp_path}/teacher").replace(f"{tmp_path}/bert", f"{tmp_path}/student")
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"teacher\.max_length: the outputs of this task belong to tokens, so teacher"
    ):
        prepared(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text(text.replace(", max_length: 30", ""))
    with pytest.raises(
        ConfigError, match=r"teacher\.model: it .*; the outputs of this task belong to tokens, so teach"
    ):
        prepared(tmp_path / "x.yaml")
