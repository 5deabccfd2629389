"""Whole runs with a cached teacher: the second epoch and the second run read it, to the same curves."""

import csv
import json
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from distill import run
from distill.config.loader import ConfigError
from distill.evaluation.measure import Latency
from tests.helpers.repositories import save_tokenizer
from tests.helpers.runs import interrupted
from tests.helpers.worlds import save_data, save_teacher


def curve(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


def notes(folder: Path) -> str:
    return " ".join(json.loads((folder / "report.json").read_text())["notes"])


def teacher(materials) -> dict:
    return {"model": str(materials / "teacher"), "cache": True}


def test_the_second_epoch_and_the_second_run_have_no_teacher(materials, tiny_run):
    folder = tiny_run.parent / "runs"
    student = {"losses.relations": None, "quantize": None}
    given = {"teacher": teacher(materials)} | student
    run(tiny_run, name="first", **given)
    assert "ran for 64 rows, and was read from its cache for 64" in notes(folder / "first")
    run(tiny_run, name="second", **given)
    assert "ran for 0 rows, and was read from its cache for 128" in notes(folder / "second")
    assert curve(folder / "first") == curve(folder / "second")
    run(tiny_run, name="without", **student)
    for a, b in zip(curve(folder / "first"), curve(folder / "without"), strict=True):
        assert float(a["train/logits"] or 0) == pytest.approx(float(b["train/logits"] or 0), rel=0.05, abs=1e-3)


def test_a_stop_in_the_first_epoch_changes_nothing(materials, tiny_run, monkeypatch):
    given = {"teacher": teacher(materials), "losses.relations": None, "name": "x"}
    interrupted(monkeypatch, 16, tiny_run, output=str(tiny_run.parent / "elsewhere"), **given)
    interrupted(monkeypatch, 5, tiny_run, **given)
    interrupted(monkeypatch, 16, tiny_run, resume=True, **given)
    assert curve(tiny_run.parent / "runs" / "x") == curve(tiny_run.parent / "elsewhere" / "x")


TOKENS = """\
task: {{name: {name}, data: {folder}/data, max_length: 32, batch_size: 8}}
teacher: {{model: {folder}/teacher, cache: {cache}}}
student: {{kind: Transformer, layers: 1}}
losses:
  labels: {{kind: Labels}}
  logits: {{kind: Logits, temperature: 2.0}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""


@pytest.mark.parametrize("name", ["token_classification", "question_answering"])
def test_what_is_said_of_tokens_trains_the_same_from_the_cache(name, tmp_path, monkeypatch):
    latency = Latency(1.0, [1.0, 1.0])
    monkeypatch.setattr(
        "distill.evaluation.evaluate.measure_latencies", lambda models, batch: dict.fromkeys(models, latency)
    )
    (tmp_path / "data").mkdir()
    save_data(name, tmp_path / "data", rows=24)
    save_teacher(name, tmp_path / "teacher")
    for run_name, cache in (("without", "false"), ("first", "true"), ("second", "true")):
        (tmp_path / "x.yaml").write_text(TOKENS.format(name=name, folder=tmp_path, cache=cache))
        run(tmp_path / "x.yaml", name=run_name)
    without, first, second = (curve(tmp_path / "runs" / run_name) for run_name in ("without", "first", "second"))
    assert first == second and "ran for 0 rows, and was read from its cache for 48" in notes(
        tmp_path / "runs" / "second"
    )
    assert len(without) == len(first) and float(without[0]["train/logits"]) > 0
    for a, b in zip(without, first, strict=True):
        for key in a:  # equal but for the rounding of other batches
            assert a[key] == b[key] or float(a[key]) == pytest.approx(float(b[key]), rel=1e-4), key


def test_augmented_rows_are_not_kept(materials, tiny_run):
    with pytest.raises(ConfigError, match="cache: augmented rows change in every epoch"):
        run(tiny_run, teacher=teacher(materials), **{"task.augment": {"kind": "Masking"}})


VOCABULARY = """\
task: {{name: causal_lm, data: {folder}/data, max_length: 16, batch_size: 8}}
teacher: {{model: {folder}/teacher, cache: true}}
student: {{kind: Transformer, layers: 1}}
losses: {losses}
optimizer: {{lr: 1e-3}}
trainer: {{max_steps: 4, accelerator: cpu}}
output: {folder}/runs
"""
NEVER = {
    "logits": "{logits: {kind: Logits}}",
    "top_k": "{labels: {kind: Labels}, logits: {kind: ReverseKL, top_k: 5}}",
    "both": "{hidden: {kind: HiddenMSE}, logits: {kind: Logits}}",
    "attention": "{labels: {kind: Labels}, relations: {kind: Relations, layers: top, heads: 4}}",
}


@pytest.fixture
def language(tmp_path: Path) -> Path:
    """A folder with text and a teacher of 1,100 outputs."""
    (tmp_path / "data").mkdir()
    save_data("causal_lm", tmp_path / "data", rows=24)
    size = save_tokenizer(tmp_path / "teacher")
    assert size < 1100
    GPT2LMHeadModel(GPT2Config(vocab_size=1100, n_layer=2, n_embd=16, n_head=4)).save_pretrained(tmp_path / "teacher")
    return tmp_path


@pytest.mark.parametrize("losses", NEVER)
def test_a_cache_that_would_never_be_read_is_refused(language, losses):
    (language / "x.yaml").write_text(VOCABULARY.format(folder=language, losses=NEVER[losses]))
    what = "attention" if losses == "attention" else "logits over a vocabulary of 1,100"
    message = rf"x\.yaml:2: teacher\.cache: would never be read: the losses look at {what} at every step, .*: false$"
    with pytest.raises(ConfigError, match=message):
        run(language / "x.yaml")
    assert not (language / "runs").exists()


def test_what_a_cache_of_a_language_model_keeps_is_told_before_the_first_step(language, capfd):
    losses = "{hidden: {kind: HiddenMSE}, logits: {kind: Logits, start: 4 steps}}"
    text = VOCABULARY.format(folder=language, losses=losses).replace("max_steps: 4", "max_steps: 6")
    (language / "x.yaml").write_text(text)
    report = run(language / "x.yaml")
    (warning,) = [text for text in report.warnings if text.startswith("teacher.cache: ")]
    assert "at 2 of 6 steps the losses look at logits over a vocabulary of 1,100, which are not kept" in warning
    printed = capfd.readouterr().out.splitlines()
    assert f"warning: {warning}" in printed[: printed.index("x: 6 steps, 2 in an epoch") + 12]
    (cache,) = (language / "runs" / ".teacher-cache").iterdir()
    assert {file.name for file in cache.iterdir()} == {"decoder-0", "decoder-2"}
    # of three epochs the first writes, the second reads, and in the third the teacher runs for its logits
    (note,) = [note for note in report.notes if "from its cache" in note]
    rows = int(note.split("for ")[-1])
    assert 8 < rows <= 16 and note == f"teacher: ran for {2 * rows} rows, and was read from its cache for {rows}"
