"""A run in shards over two processes is the run under DDP; it resumes bit for bit and leaves a plain student."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, AutoTokenizer

from tests.helpers.runs import checkpoint, flat, rows, same
from tests.helpers.worlds import save_data, save_teacher

ROOT = Path(__file__).parents[3]
CONFIG = """\
task: {{name: token_classification, data: {folder}/data, max_length: 32, batch_size: 8}}
teacher: {{model: {folder}/teacher, drop_when_matched: true, check: false}}
student: {{kind: Transformer, layers: 2, hidden: 24, intermediate: 32}}
losses:
  labels: {{kind: Labels}}
  hidden: {{kind: HiddenMSE, layers: uniform, stop: 50%}}
  relations: {{kind: Relations, layers: top, heads: 4, stop: 50%}}
  logits: {{kind: Logits}}
prune:
  small: {{kind: Magnitude, where: [attention], penalty: 1e-4, sparsity: {{kind: Cubic, to: 0.4, stop: 60%}}}}
  gated: {{kind: L0, shape: heads, sparsity: {{kind: Cubic, to: 0.3, start: 10%, stop: 60%}}}}
  units: {{kind: Taylor, shape: neurons, dropout: 0.2, sparsity: {{kind: Cubic, to: 0.25, start: 10%, stop: 60%}}}}
  moved: {{kind: Movement, where: [head], sparsity: {{kind: Cubic, to: 0.5, start: 10%, stop: 60%}}}}
  read: {{kind: SparseGPT, where: [ffn], batches: 2, sparsity: {{kind: Steps, at: {{30%: 0.2}}}}}}
  squared: {{kind: Fisher, where: [ffn], sparsity: {{kind: Cubic, to: 0.2, start: 10%, stop: 60%}}}}
  scaled: {{kind: Wanda, where: [attention], batches: 2, sparsity: {{kind: Steps, at: {{40%: 0.2}}}}}}
  chance: {{kind: Random, where: [head], sparsity: {{kind: Cubic, to: 0.2, stop: 60%}}}}
quantize: {{start: 70%}}
optimizer: {{lr: 1e-3, freeze: {{"*embeddings*": 70%}}}}
trainer: {{max_epochs: 2, accelerator: cpu, devices: 2, log_every_n_steps: 1}}
output: {folder}/runs
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have made all runs; of 17 rows for validation one has a batch more."""
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "data").mkdir()
    save_data("token_classification", folder / "data", rows=68)
    save_teacher("token_classification", folder / "teacher", layers=4)
    (folder / "x.yaml").write_text(CONFIG.format(folder=folder))
    pair = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("sharded_pair.py")), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert pair.returncode == 0, pair.stdout + pair.stderr
    return folder


@pytest.mark.slow
def test_shards_are_ddp(done: Path) -> None:
    first, second = rows(done / "runs" / "ddp"), rows(done / "runs" / "whole")
    assert len(first) == len(second) > 16
    for a, b in zip(first, second, strict=True):
        for key in a:
            assert (a[key] == "") == (b[key] == "")
            if a[key]:
                assert float(a[key]) == pytest.approx(float(b[key]), abs=1e-5, rel=1e-4), (a["step"], key)
    first, second = (checkpoint(done / "runs" / name)["state_dict"] for name in ("ddp", "whole"))
    assert first.keys() == second.keys()
    assert [key for key in first if first[key].dtype == torch.bool and not torch.equal(first[key], second[key])] == []


@pytest.mark.slow
def test_resumes_bit_for_bit(done: Path) -> None:
    uninterrupted, parts = done / "runs" / "whole", done / "runs" / "parts"
    for part in ("state_dict", "callbacks", "optimizer_states"):
        first, second = (
            {name: leaf for name, leaf in flat(checkpoint(run)[part]).items() if not name.endswith("/current_score")}
            for run in (uninterrupted, parts)
        )
        assert first.keys() == second.keys()
        assert [name for name in first if not same(first[name], second[name])] == []
    assert rows(parts) == rows(uninterrupted)


@pytest.mark.slow
def test_the_deployed_student_is_that_of_ddp(done: Path) -> None:
    folders = [done / "runs" / name / "student" for name in ("ddp", "whole")]
    first, second = (load_file(folder / "model.safetensors") for folder in folders)
    assert first.keys() == second.keys()
    assert {name: weight.shape for name, weight in first.items()} == {
        name: weight.shape for name, weight in second.items()
    }
    words = AutoTokenizer.from_pretrained(folders[1])("a great film", return_tensors="pt")
    logits = [AutoModelForTokenClassification.from_pretrained(folder)(**words).logits for folder in folders]
    torch.testing.assert_close(*logits, atol=1e-3, rtol=1e-3)
    reports = [json.loads((folder.parent / "report.json").read_text()) for folder in folders]
    assert reports[0]["models"].keys() == reports[1]["models"].keys() == {*reports[0]["models"]}
    for name, model in reports[0]["models"].items():
        assert model["parameters"] == reports[1]["models"][name]["parameters"]
        assert model["metrics"] == pytest.approx(reports[1]["models"][name]["metrics"], abs=1e-6)


@pytest.mark.slow
def test_gradients_are_those_of_one_process(done: Path) -> None:
    differences = json.loads((done / "gradients.json").read_text())
    assert len(differences) == 7
    assert {name: others for name, others in differences.items() if others} == {}
