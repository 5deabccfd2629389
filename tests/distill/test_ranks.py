"""Two processes are one, also where predictions are of tokens and rows are drawn anew."""

import csv
import json
from pathlib import Path

import pytest

from tests.distill.test_run import command
from tests.distill.worlds import save_data, save_teacher

CONFIG = """\
task: {{name: {name}, data: {folder}/data, max_length: {length}}}
teacher: {folder}/teacher
student: {{kind: Transformer, layers: 1}}
losses:
  labels: {{kind: Labels}}
  logits: {{kind: Logits}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1, enable_progress_bar: false}}
output: {folder}/runs
"""


PRUNE = """\
prune:
  units: {kind: Taylor, shape: neurons, sparsity: {kind: Cubic, to: 0.5, start: 1 steps, stop: 3 steps}}
  gates: {kind: L0, shape: heads, sparsity: {kind: Cubic, to: 0.5, start: 1 steps, stop: 4 steps}}
  moved:
    {kind: Movement, drop: 0.2, where: [attention], sparsity: {kind: Cubic, to: 0.5, start: 1 steps, stop: 4 steps}}
  read: {kind: Wanda, where: [ffn], batches: 2, sparsity: {kind: Steps, at: {4 steps: 0.3}}}
  stream: {kind: Taylor, shape: hidden, sparsity: {kind: Cubic, to: 0.25, start: 1 steps, stop: 3 steps}}
"""


@pytest.mark.parametrize(
    ("name", "metric", "length", "more"),
    [
        ("token_classification", "f1", 32, ""),
        ("masked_lm", "perplexity", 6, ""),
        ("token_classification", "accuracy", 32, PRUNE),
    ],
    ids=["tokens", "drawn anew", "pruned"],
)
def test_two_processes_are_one(tmp_path: Path, name: str, metric: str, length: int, more: str) -> None:
    (tmp_path / "data").mkdir()
    save_data(name, tmp_path / "data", rows=28)  # seven for validation: one more for one rank than for the other
    save_teacher(name, tmp_path / "teacher", layers=2)
    file = tmp_path / "teacher" / "config.json"
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    file.write_text(json.dumps(json.loads(file.read_text()) | still))
    (tmp_path / "x.yaml").write_text(CONFIG.format(name=name, folder=tmp_path, length=length) + more)
    started = [
        command(tmp_path / "x.yaml", "--name=one", "--task.batch_size=8"),
        command(
            tmp_path / "x.yaml", "--name=two", "--task.batch_size=4", "--trainer.devices=2", "--trainer.strategy=ddp"
        ),
    ]
    for process in started:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
    one, two = (list(csv.DictReader((tmp_path / "runs" / name / "metrics.csv").open())) for name in ("one", "two"))
    assert len(one) == len(two) > 4
    for a, b in zip(one, two, strict=True):
        for key in a:
            if key.startswith(("train/", "val/")) and a[key]:
                assert float(a[key]) == pytest.approx(float(b[key]), abs=1e-5, rel=1e-4), (a["step"], key)
    assert [row.get("sparsity") for row in one] == [row.get("sparsity") for row in two]
    assert bool(more) == any(float(row.get("sparsity") or 0) > 0.3 for row in one)
    assert any(float(row[f"val/{metric}"] or 0) for row in one)
