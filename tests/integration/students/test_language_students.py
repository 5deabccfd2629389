"""Whole runs of students that predict words: with another attention, or shared layers; distilled, pruned, int8."""

from pathlib import Path

import pytest

from distill import run
from students.families.families import blocks
from students.structure.sharing import group_shared_blocks
from students.structure.units import neurons
from tests.helpers.worlds import ready_task, save_data, save_teacher

CONFIG = """\
task: {{name: {name}, data: {folder}/data, max_length: 32, batch_size: 8}}
teacher: {folder}/teacher
student: {{kind: Transformer}}
losses:
  hidden: {{kind: HiddenMSE, layers: uniform}}
  logits: {{kind: Logits}}
prune: {{kind: Magnitude, shape: neurons, sparsity: {{kind: Steps, at: {{2 steps: 0.25}}}}}}
quantize: {{weights: 8, start: 50%}}
trainer: {{max_steps: 6, accelerator: cpu}}
output: {folder}/runs
"""
STUDENTS = [
    ("causal_lm", {"attention": {"kind": "LocalAttention", "window": 4}}),
    ("causal_lm", {"attention": {"kind": "FixedAttention", "block": 4, "summaries": 1}}),
    ("causal_lm", {"attention": {"kind": "LinearAttention"}}),
    ("causal_lm", {"attention": {"kind": "Performer", "features": 16}}),
    ("causal_lm", {"share_layers": {}}),
    ("masked_lm", {"attention": {"kind": "Linformer", "length": 8}}),
    ("masked_lm", {"attention": {"kind": "BlockAttention", "blocks": 2}}),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, student", STUDENTS, ids=lambda value: value if isinstance(value, str) else str(value))
def test_it_is_distilled_pruned_and_int8(tmp_path: Path, name: str, student: dict) -> None:
    (tmp_path / "data").mkdir()
    save_data(name, tmp_path / "data")
    save_teacher(name, tmp_path / "teacher", layers=2)
    (tmp_path / "x.yaml").write_text(CONFIG.format(name=name, folder=tmp_path))
    report = run(tmp_path / "x.yaml", student={"kind": "Transformer"} | student)
    assert report.parity["folded"] < 1e-4 and report.parity["cut"] < 1e-4
    (export,) = report.exports
    assert export.format == "onnx" and export.precision.endswith("int8") and export.agreement == 1.0
    assert "nan" not in (report.folder / "metrics.csv").read_text()
    model = ready_task(name, tmp_path).head.from_pretrained(report.folder / "student")
    assert {units.count for units in neurons(model)} == {96 if name == "causal_lm" else 48}
    if "share_layers" in student:
        assert [len(group) for group in group_shared_blocks(blocks(model))] == [2]
    else:
        assert model.config.attention["kind"] == student["attention"]["kind"]
