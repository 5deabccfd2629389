"""Every task runs from data to report, distilled, pruned, in 8 bits; what it predicts does not depend on padding."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel

from distill import run
from distill.data import prepare_data
from distill.data.batches import Collator
from distill.tasks.task import Task
from losses.loss import prediction_mask
from students.recording.model_io import model_inputs, output_logits
from tests.helpers.worlds import WORLDS, ready_task, save_data, save_teacher

CONFIG = """\
task: {{name: {name}, data: {folder}/data, max_length: 32, batch_size: 8{more}}}
teacher: {folder}/teacher
student: {{kind: Transformer, layers: 1, hidden: 24, intermediate: 32}}
losses:
  hidden: {{kind: HiddenMSE, layers: uniform, stop: 50%}}
  relations: {{kind: Relations, layers: top, heads: 4, stop: 50%}}
  labels: {{kind: Labels}}
  logits: {{kind: {logits}}}
prune: {{kind: Magnitude, shape: neurons, sparsity: {{kind: Cubic, to: 0.25, start: 10%, stop: 60%}}}}
quantize: {{start: 70%}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""

MORE = {"seq2seq": ", source: left, target: right", "multi_label": ", label: labels"}
LOGITS = {"regression": "LogitsMSE", "ranking": "MarginMSE"}


@pytest.fixture(scope="module", params=WORLDS)
def world(request, tmp_path_factory) -> tuple[str, Path]:
    """The name of a task, and a folder with its ``data`` and ``teacher``."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "data").mkdir()
    save_data(request.param, folder / "data")
    shutil.copy(folder / "data" / "validation.parquet", folder / "data" / "test.parquet")
    save_teacher(request.param, folder / "teacher")
    return request.param, folder


def test_runs_from_data_to_report(world):
    name, folder = world
    file = folder / "x.yaml"
    logits = LOGITS.get(name, "Logits, temperature: 2.0")
    file.write_text(CONFIG.format(name=name, folder=folder, more=MORE.get(name, ""), logits=logits))
    report = run(file)
    saved_report = json.loads((folder / "runs" / "x" / "report.json").read_text())
    assert saved_report["task"] == name and saved_report["main_metric"] in saved_report["models"]["student"]["metrics"]
    assert saved_report["models"]["teacher"]["metrics"].keys() == saved_report["models"]["student"]["metrics"].keys()
    # The test rows are those of validation.
    for model, metrics in saved_report["test"]["metrics"].items():
        assert metrics == pytest.approx(saved_report["models"][model]["metrics"]), model
    assert saved_report["test"]["difference"] == saved_report["difference"]
    export = report.exports[0]
    assert export.agreement > 0.9 and report.parity["cut"] < 1e-4
    rows = list(csv.DictReader((folder / "runs" / "x" / "metrics.csv").open()))
    for loss in ("hidden", "relations", "labels", "logits"):
        assert float(rows[0][f"train/{loss}"]) > 0
    task = ready_task(name, folder / "data")
    saved = task.head.from_pretrained(folder / "runs" / "x" / "student")
    assert saved.config.num_hidden_layers == 1
    page = (folder / "runs" / "x" / "report.html").read_text()
    assert saved_report["main_metric"].replace("_", " ") in page


def loaded(name: str, folder: Path) -> tuple[Task, Dataset, Collator, PreTrainedModel]:
    """A task, its validation rows, what makes batches of them, and the teacher."""
    task = ready_task(name, folder / "data")
    tokenizer = AutoTokenizer.from_pretrained(folder / "teacher")
    model = task.head.from_pretrained(folder / "teacher").eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    return (
        task,
        prepare_data(task, tokenizer)["validation"].remove_columns("length"),
        Collator(tokenizer, 0, task.finalize_batch),
        model,
    )


def test_what_is_predicted_does_not_depend_on_padding(world):
    task, rows, collate, model = loaded(*world)

    def predicted_of(batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            logits = task.select_logits(output_logits(model(**model_inputs(model, batch))), batch)
        return task.predictions(logits, batch), logits[prediction_mask(batch)].log_softmax(-1).amax(-1)

    rows = [rows[i] for i in sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))]
    together, alone = predicted_of(collate(rows)), [predicted_of(collate([row])) for row in rows]
    for batched, split in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(batched, torch.cat(split), rtol=1e-4, atol=1e-5)


def test_judged_in_batches_as_in_one(world):
    task, rows, collate, model = loaded(*world)

    def judged(size: int) -> dict[str, float]:
        metrics = task.metrics()
        for start in range(0, len(rows), size):
            batch = collate([rows[i] for i in range(start, min(start + size, len(rows)))])
            with torch.no_grad():
                task.update_metrics(
                    metrics, task.select_logits(output_logits(model(**model_inputs(model, batch))), batch), batch
                )
                task.update_generation_metrics(
                    metrics, lambda given: output_logits(model(**model_inputs(model, given))), batch
                )
        return {key: float(value) for key, value in metrics.compute().items()}

    assert judged(5) == pytest.approx(judged(len(rows)), rel=1e-4)
