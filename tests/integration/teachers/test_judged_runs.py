"""Whole runs whose teacher is a prompted language model, an endpoint or several: over texts with and without labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from distill import run
from distill.config.errors import ConfigError
from tests.helpers.repositories import BAD, GOOD, save_tiny_bert, save_tokenizer, sentences
from tests.helpers.servers.server import Reply, alternatives, serve

TEXT = """\
task: {{name: classification, data: {folder}/data, max_length: 32, batch_size: 8}}
teacher: {teacher}
student: {folder}/student
losses:
  soft: {{kind: Logits}}
optimizer: {{lr: 1e-2}}
trainer: {{max_epochs: 6, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""
WORDS = 'prompt: "film: {text}. it is", labels: {0: awful, 1: great}'


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with a student and rows without labels."""
    save_tiny_bert(tmp_path / "student", layers=1, hidden=24, heads=4)
    for seed, (split, count) in enumerate({"train": 96, "validation": 16}.items()):
        write_rows(tmp_path, split, [{"sentence": row["sentence"]} for row in sentences(count, seed)])
    return tmp_path


def write_rows(folder: Path, split: str, rows: list[dict]) -> None:
    (folder / "data").mkdir(exist_ok=True)
    with (folder / "data" / f"{split}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write(folder: Path, teacher: str) -> Path:
    file = folder / "x.yaml"
    file.write_text(TEXT.format(folder=folder, teacher=teacher))
    return file


def save_model(folder: Path) -> None:
    """A language model that has learnt what the words of a film say of it."""
    size = save_tokenizer(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=size, max_position_embeddings=96, **sizes))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [row | {"word": ("awful", "great")[row["label"]]} for row in sentences(200, 9)]
    texts = [f"film: {row['sentence']}. it is {row['word']}" for row in rows]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    del batch["token_type_ids"]
    ends = batch["attention_mask"].sum(1)
    labels = torch.full_like(batch["input_ids"], -100)
    for i, end in enumerate(ends):
        labels[i, end - 2] = batch["input_ids"][i, end - 2]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(40):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def report(folder: Path, name: str = "x") -> dict:
    return json.loads((folder / "runs" / name / "report.json").read_text())


def mood(text: str) -> int:
    words = text.lower().replace(".", " ").split()
    return sum(word in GOOD for word in words) - sum(word in BAD for word in words)


def honest(body: dict, count: int) -> Reply:
    score = mood(body["messages"][0]["content"])
    return 200, alternatives(great=-0.1, awful=-2.5) if score > 0 else alternatives(awful=-0.1, great=-2.5), {}


def test_a_prompted_model_teaches_without_any_label(world: Path) -> None:
    save_model(world / "lm")
    run(write(world, f"{{model: {world}/lm, {WORDS}}}"))
    first = report(world)
    assert first["models"]["teacher"]["metrics"]["accuracy"] == 1.0  # its own decisions
    assert first["models"]["student"]["metrics"]["accuracy"] > 0.7
    preflight = json.dumps(first["preflight"])
    assert "judged 112 prompts of" in preflight and "the teacher's decisions are the labels" in preflight
    assert first["preflight"]["outputs"]["teacher"] == {"awful": "awful", "great": "great"}
    (world / "lm" / "model.safetensors").touch()
    run(write(world, f"{{model: {world}/lm, {WORDS}}}"), name="again")
    run(write(world, f"{{model: {world}/lm, {WORDS}}}"), name="kept")
    assert "112 of 112 answers were kept from before" in json.dumps(report(world, "kept")["preflight"])
    curves = [(world / "runs" / name / "metrics.csv").read_text() for name in ("x", "again", "kept")]
    losses = [[row.split(",")[3] for row in curve.splitlines()] for curve in curves]
    assert losses[0] == losses[1] == losses[2]


def test_labels_that_are_there_judge_the_teacher_too(world: Path) -> None:
    save_model(world / "lm")
    for seed, (split, count) in enumerate({"train": 96, "validation": 16}.items()):
        write_rows(world, split, sentences(count, seed))
    run(write(world, f"{{model: {world}/lm, {WORDS}, calibrate: true}}"))
    accuracy = report(world)["models"]["teacher"]["metrics"]["accuracy"]
    assert 0.7 < accuracy <= 1.0
    with pytest.raises(ConfigError, match=r"teacher: it does worse than a constant prediction"):
        swapped = WORDS.replace("0: awful, 1: great", "0: great, 1: awful")
        run(write(world, f"{{model: {world}/lm, {swapped}}}"), name="swapped")


def test_an_endpoint_that_fails_at_times_is_asked_once_a_text(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setattr("distill.teachers.judges.client._LONGEST_WAIT", 0.01)

    def flaky(body: dict, count: int) -> Reply:
        if len(body["messages"][0]["content"]) % 3 == 0 and count == 0:
            return 500, "down", {}
        return honest(body, count)

    with serve(flaky) as (url, requests):
        teacher = f"{{endpoint: '{url}', model: any, {WORDS}}}"
        run(write(world, teacher))
        assert {request["authorization"] for request in requests} == {"Bearer sk-secret"}
        count = len(requests)
        run(write(world, teacher), name="again")
        assert len(requests) == count
    assert report(world)["models"]["student"]["metrics"]["accuracy"] > 0.7
    for file in (world / "runs").rglob("*"):
        assert file.is_dir() or b"sk-secret" not in file.read_bytes()


def test_what_was_answered_is_kept_when_the_server_goes_down(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[dict] = []

    def down(body: dict, count: int) -> Reply:
        asked.append(body)
        return honest(body, count) if len(asked) <= 20 else (403, {"error": "quota"}, {})

    with serve(down) as (url, _):
        teacher = f"{{endpoint: '{url}', model: any, parallel: 1, {WORDS}}}"
        with pytest.raises(ConfigError, match=r"teacher.endpoint: http.* answers 403 Forbidden \(quota\)"):
            run(write(world, teacher))
    (kept,) = (world / "runs" / ".teacher-cache").glob("judge-*.jsonl")
    assert len([line for line in kept.read_text().splitlines() if line]) == 20
    assert "teacher: 20 new answers are kept; another run asks only the rest" in capsys.readouterr().err
    assert not (world / "runs" / "x").exists()


def test_more_requests_than_allowed_are_refused_before_the_first_one(world: Path) -> None:
    with serve(honest) as (url, requests):
        teacher = f"{{endpoint: '{url}', model: any, max_requests: 10, {WORDS}}}"
        with pytest.raises(ConfigError, match=r"max_requests: 112 requests are needed, of some .*max_requests: 112"):
            run(write(world, teacher))
        assert requests == []


def test_several_judges_are_averaged(world: Path) -> None:
    with (
        serve(honest) as (first, _),
        serve(lambda body, count: (200, alternatives(great=-1.0, awful=-1.0), {})) as (
            second,
            _,
        ),
    ):
        judges = f"a: {{endpoint: '{first}', model: m, {WORDS}}}, b: {{endpoint: '{second}', model: m, {WORDS}}}"
        run(write(world, f"{{judges: {{{judges}}}, weights: {{a: 3, b: 1}}}}"))
    assert report(world)["models"]["student"]["metrics"]["accuracy"] > 0.7


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("{model: lm, prompt: 'is it?', labels: {0: a, 1: b}}", "teacher: prompt: has no {text}"),
        ("{model: lm, prompt: '{txt}', labels: {0: a, 1: b}}", "teacher: prompt: there is no text 'txt'"),
        ("{model: lm, prompt: '{text}', labels: {0: a}}", "teacher: labels: write the word of each class"),
        ("{model: lm, prompt: '{text}'}", "teacher: PromptedModel needs 'labels'"),
        ("{endpoint: localhost, model: m, prompt: '{text}', labels: {0: a, 1: b}}", "teacher: endpoint: an address"),
        (
            "{endpoint: 'http://x', model: m, prompt: '{text}', labels: {0: bad, 1: brilliant}}",
            "teacher: labels: 'bad' and 'brilliant' may begin with the same token",
        ),
    ],
)
def test_what_a_judge_cannot_use_is_refused_before_anything_is_written(world: Path, teacher: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        run(write(world, teacher))
    assert message in str(error.value).replace("teacher.", "teacher: ")
    assert not (world / "runs" / "x").exists()
