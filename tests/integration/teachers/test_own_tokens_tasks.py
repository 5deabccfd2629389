"""Which tasks a teacher can read in tokens of its own: those whose outputs stand for a whole text."""

import pytest
import torch
from datasets import load_dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    GPT2Config,
)

from distill import run
from distill.config.errors import ConfigError
from students.recording.signals import Signals
from tests.helpers.students.other_tokenizers import CONFIG, save_byte_level, save_byte_level_teacher
from tests.helpers.worlds import TAGS, save_data, save_teacher
from tests.integration.teachers.test_own_tokens_runs import curves, prepared

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


@pytest.mark.parametrize("task", ["question_answering", "causal_lm"])
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


def save_tagger(folder):
    """Save a random GPT-2 that tags words, and its byte-level tokenizer."""
    size = save_byte_level(folder)
    config = GPT2Config(vocab_size=size, n_positions=64, n_embd=32, n_layer=2, n_head=4, num_labels=len(TAGS))
    config.id2label, config.label2id = dict(enumerate(TAGS)), {tag: i for i, tag in enumerate(TAGS)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForTokenClassification.from_config(config)
        torch.nn.init.normal_(model.classifier.weight, std=0.5)  # else no word differs from another
    model.save_pretrained(folder)


@pytest.fixture
def tagged(tmp_path):
    """A config of words, and the folder of its models."""
    (tmp_path / "data").mkdir()
    save_data("token_classification", tmp_path / "data", rows=24)
    save_teacher("token_classification", tmp_path / "bert", layers=1)
    save_tagger(tmp_path / "gpt2")
    text = CONFIG.format(folder=tmp_path, data=tmp_path / "data").replace(
        "name: classification", "name: token_classification"
    )
    (tmp_path / "x.yaml").write_text(text)
    return tmp_path / "x.yaml"


def word_logits(folder, words: list[str], max_length: int) -> torch.Tensor:
    """The teacher's logits at the first token of each word that it reads, by plain transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "gpt2")
    model = AutoModelForTokenClassification.from_pretrained(folder / "gpt2").eval()
    encoding = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length, return_tensors="pt")
    firsts = {word: i for i, word in reversed(list(enumerate(encoding.word_ids()))) if word is not None}
    with torch.no_grad():
        logits = model(**encoding).logits[0]
    return torch.stack([logits[firsts[word]] for word in sorted(firsts)])


@pytest.mark.parametrize("max_length", [40, 12])
def test_words_are_where_tokens_of_both_meet(tagged, max_length):
    """Also where the teacher reads fewer words than the student: those have no label on either side."""
    made = prepared(tagged, **{"teacher.max_length": max_length})
    table = load_dataset("parquet", data_dir=str(tagged.parent / "data"), split="train")
    texts = {" ".join(words): words for words in table["tokens"]}
    dropped = 0
    for batch in made.loader:
        logits = made.module.teacher.trace(batch, Signals(logits=True)).logits
        assert logits.shape[:2] == batch["input_ids"].shape
        for ids, labels, row in zip(batch["input_ids"], batch["labels"], logits, strict=True):
            words = texts[made.parts.tokenizer.decode(ids, skip_special_tokens=True)]
            expected = word_logits(tagged.parent, words, max_length)
            assert int((labels != -100).sum()) == len(expected)
            torch.testing.assert_close(row[labels != -100], expected, atol=1e-5, rtol=1e-5)
            dropped += len(words) - len(expected)
    assert (dropped > 0) == (max_length == 12)
    warning = f"{dropped} of "
    lost = [line for line in made.plan.preflight.warnings if "or are not read by the teacher" in line]
    assert bool(lost) == (max_length == 12) and all(warning in line for line in lost[:1])


def test_a_tagger_trains_the_same_from_the_cache(tagged):
    report = run(tagged, name="without")
    assert report.models["teacher"].metrics.keys() == report.models["student"].metrics.keys()
    for name in ("first", "second"):
        run(tagged, name=name, **{"teacher.cache": True})
    runs = [curves(tagged.parent / "runs" / name) for name in ("first", "second", "without")]
    for first, second, without in zip(*runs, strict=True):
        assert first == second and first == pytest.approx(without, rel=1e-4, abs=1e-6)
    scores = report.preflight["scores"]["teacher"][0]
    assert scores["rows"] == 6 and report.difference


def test_changed_words_and_several_taggers_are_refused(tagged):
    with pytest.raises(
        ConfigError, match=r"task\.augment: changed tokens have no words, by which a teacher with other"
    ):
        prepared(tagged, **{"task.augment": {"kind": "Masking"}})
    text = tagged.read_text()
    start, end = text.index("teacher:"), text.index("student:")
    folder = tagged.parent
    members = f"{{far: {{model: {folder}/gpt2, check: false}}, near: {{model: {folder}/bert, check: false}}}}"
    tagged.write_text(f"{text[:start]}teacher: {{members: {members}}}\n{text[end:]}")
    with pytest.raises(
        ConfigError, match=r"teacher\.members\.far\.model: it reads other tokens, and outputs for words "
    ):
        prepared(tagged)
