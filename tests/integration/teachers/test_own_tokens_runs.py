"""Runs whose teacher has a tokenizer of its own: one text, two encodings, two maximal lengths."""

import json
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill import run
from distill.config.errors import ConfigError
from distill.evaluation.measure import torch_predict
from distill.experiment.runs import read_runs
from distill.teachers.cache import CachedTeacher
from distill.teachers.ensemble import EnsembleModel, combine_logits
from distill.training.prepare.prepare import PreparedRun, prepare
from students.recording.signals import Signals
from tests.helpers.repositories import save_tiny_bert
from tests.helpers.runs import resumes_bit_for_bit, rows
from tests.helpers.students.other_tokenizers import CONFIG, save_pair


@pytest.fixture(scope="module")
def folder(materials, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    save_pair(folder)
    return folder


@pytest.fixture
def config(folder, materials, tmp_path) -> Path:
    """The config of 16 steps, with a folder of runs of its own."""
    file = tmp_path / "x.yaml"
    text = CONFIG.format(folder=folder, data=materials / "data")
    file.write_text(text.replace(f"output: {folder}/runs", f"output: {tmp_path}/runs"))
    return file


def prepared(file: Path, loss: str = "", **given: object) -> PreparedRun:
    """A run before its first step, with one more loss."""
    if loss:
        text = file.read_text()
        file = file.with_name("more.yaml")
        file.write_text(text.replace("losses:\n", f"losses:\n  x: {loss}\n"))
    (config,) = read_runs(file, given)
    return prepare(config, resume=False)


def alone(folder: Path, texts: list[str], max_length: int) -> torch.Tensor:
    """The teacher's logits by plain transformers, each text by itself."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "gpt2")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "gpt2").eval()
    logits = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            model.config.pad_token_id = tokenizer.eos_token_id
            logits.append(model(**inputs).logits[0])
    return torch.stack(logits)


@pytest.mark.parametrize("max_length", [30, 20, None])
def test_the_teacher_has_the_logits_of_its_own_tokens(folder, materials, config, max_length):
    run_parts = prepared(config, **{"teacher.max_length": max_length})
    texts = load_dataset("parquet", data_dir=str(materials / "data"), split="train")["sentence"]
    compared = 0
    for batch in run_parts.loader:
        if compared == 0:
            own = batch["teacher/input_ids"]
            assert own.shape[1] > batch["input_ids"].shape[1] or max_length == 20
        decoded = [run_parts.parts.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch["input_ids"]]
        logits = run_parts.module.teacher.trace(batch, Signals(logits=True)).logits
        full = [next(text for text in texts if text.startswith(start)) for start in decoded]
        assert torch.allclose(logits, alone(folder, full, max_length or 24), atol=1e-5)
        compared += len(full)
    assert compared == 64


def test_the_cache_gives_the_same_outputs_and_knows_the_tokens(config):
    loss = "{kind: HiddenMSE, pooling: mean, layers: top}"
    plain, cached = prepared(config, loss), prepared(config, loss, **{"teacher.cache": True})
    assert isinstance(cached.module.teacher, CachedTeacher)
    signals = Signals(logits=True, hidden=frozenset({("decoder", 3)}))
    for _ in range(2):
        for batch in cached.loader:
            batch.pop("window")
            expected, found = (made.module.teacher.trace(batch, signals) for made in (plain, cached))
            assert torch.allclose(expected.logits, found.logits, atol=1e-6)
            valid = found.valid["decoder"]
            assert torch.equal(valid, batch["teacher/attention_mask"].bool())
            states = (trace.hidden["decoder", 3][valid] for trace in (expected, found))
            assert torch.allclose(*states, atol=1e-2)
    assert cached.module.teacher.note() == "ran for 64 rows, and was read from its cache for 64"
    other = prepared(config, **{"teacher.cache": True, "teacher.max_length": 20})
    assert other.module.teacher.folder != cached.module.teacher.folder


def curves(folder: Path) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items() if value} for row in rows(folder)]


def test_a_run_reports_both_and_trains_the_same_from_the_cache(config, capfd):
    runs = config.parent / "runs"
    report = run(config, name="without")
    assert "teacher: reads the texts in tokens of its own, 24 at most (max_length: 30)" in report.notes
    models = json.loads((runs / "without" / "report.json").read_text())["models"]
    lengths = {name: model["latency_tokens"]["batch_1"] for name, model in models.items()}
    assert lengths["teacher"] > lengths["student"]
    for name in ("first", "second"):
        run(config, name=name, **{"teacher.cache": True})
    for first, second, without in zip(*(curves(runs / name) for name in ("first", "second", "without")), strict=True):
        assert first == second
        assert first == pytest.approx(without, rel=1e-4, abs=1e-6)


def test_a_stopped_run_goes_on_bit_for_bit(config, monkeypatch):
    resumes_bit_for_bit(monkeypatch, 5, 16, config)


def test_augmented_rows_are_read_by_both(folder, config):
    run_parts = prepared(config, **{"task.augment": {"kind": "NGrams", "probability": 0.5}})
    tokenizers = (run_parts.parts.tokenizer, AutoTokenizer.from_pretrained(folder / "gpt2"))
    shorter = 0
    for batch in run_parts.loader:
        for own, student in zip(batch["teacher/input_ids"], batch["input_ids"], strict=True):
            texts = [
                tokenizer.decode(ids[: int((ids != 0).sum())], skip_special_tokens=True)
                for tokenizer, ids in zip(tokenizers, (student, own), strict=True)
            ]
            assert texts[0].split()[0] in texts[1]
            shorter += len(texts[0].split()) < 8
    assert 10 < shorter < 60


def test_losses_on_tokens_and_blocks_are_refused_in_one_line(config):
    message = r"losses\.x: compares token by token, and teacher reads tokens of its own; losses on outputs work, "
    for loss in ("HiddenMSE", "Contextual", "AttentionKL", "Relations, heads: 4"):
        with pytest.raises(ConfigError, match=message):
            prepared(config, f"{{kind: {loss}}}")
    for loss in ("HiddenMSE, pooling: mean", "Contextual, over: examples", "Contrastive", "Flow"):
        assert prepared(config, f"{{kind: {loss}}}")


def test_blocks_of_such_a_teacher_do_not_run_in_the_student(folder, config):
    """The same tokenizer, and a maximal length of its own."""
    save_tiny_bert(folder / "other", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    text = config.read_text().replace(f"{folder}/gpt2", f"{folder}/other").replace("max_length: 30", "max_length: 8")
    config.write_text(f"{text}replace: 0.5\n")
    with pytest.raises(
        ConfigError, match=r"replace: blocks of the teacher would run on the student's tokens, and teach"
    ):
        prepared(config)


def test_one_of_several_teachers_and_texts_without_labels(folder, config, materials):
    """The combined outputs are those of both; the one with the student's tokenizer can be compared token by token."""
    save_tiny_bert(folder / "large", layers=3, hidden=32, heads=4, labels=["negative", "positive"])
    members = f"{{far: {{model: {folder}/gpt2, check: false}}, near: {{model: {folder}/large, check: false}}}}"
    text = config.read_text()
    start, end = text.index("teacher:"), text.index("student:")
    more = config.parent / "more.jsonl"
    more.write_text('{"sentence": "a warm film"}\n' * 3)
    text = text.replace("batch_size: 8", f"batch_size: 8, text: sentence, unlabelled: {more}")
    start, end = text.index("teacher:"), text.index("student:")
    config.write_text(f"{text[:start]}teacher: {{members: {members}}}\n{text[end:]}")
    made = prepared(config, "{kind: HiddenMSE, teacher: near}")
    assert len(made.parts.rows["train"]) == 67
    batch = next(iter(made.loader))
    assert {name for name in batch if "/" in name} == {"far/input_ids", "far/attention_mask"}
    combined = made.module.teacher.trace(batch, Signals(logits=True)).logits
    each = [made.teachers[name].trace(batch, Signals(logits=True)).logits for name in ("far", "near")]
    torch.testing.assert_close(combined, combine_logits(each, [1.0, 1.0]))
    with pytest.raises(ConfigError, match=r"losses\.x: compares token by token, and far reads tokens of its own"):
        prepared(config, "{kind: HiddenMSE, teacher: far}")
    report = run(config)
    assert {"teacher", "teacher far", "teacher near"} <= report.models.keys()
    runs = torch_predict(
        EnsembleModel(
            {n: t.model for n, t in made.teachers.items()},
            [1.0, 1.0],
            "mean",
            made.experiment.task,
            {"far": made.teachers["far"].own_tokens},
        )
    )
    torch.testing.assert_close(runs(batch), combined)


def test_columns_with_the_outputs_of_such_a_teacher_have_its_loss_at_each_step(folder, config, materials, tmp_path):
    run(config, name="online")
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        table = load_dataset("parquet", data_dir=str(materials / "data"), split=split)
        logits = alone(folder, table["sentence"], 30).double()
        table = table.add_column("z_negative", logits[:, 0].tolist()).add_column("z_positive", logits[:, 1].tolist())
        table.to_parquet(tmp_path / "data" / f"{split}.parquet")
    text = config.read_text()
    start, end = text.index("teacher:"), text.index("student:")
    columns = "{columns: [z_negative, z_positive], values: logits, check: false}"
    config.write_text(
        f"{text[:start]}teacher: {columns}\n{text[end:]}".replace(f"{materials}/data", f"{tmp_path}/data")
    )
    run(config, name="columns", **{"task.text": "sentence"})
    online, columns = (
        [row["train/logits"] for row in curves(tmp_path / "runs" / name) if "train/logits" in row]
        for name in ("online", "columns")
    )
    assert len(online) == 16 and columns == pytest.approx(online, abs=1e-6, rel=0)
