"""A whole run at whose end half of the attentions and feed-forwards are gone: what is saved, exported and reported."""

import json
import sys

import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.measure import torch_predict
from quant_aware.onnx import OnnxModel
from tests.distill.runs import rows


def test_a_run_that_prunes_layers(tiny_run, monkeypatch):
    module = sys.modules["distill.run"]  # the package's own name for it is the function
    deployed, real = [], module.deploy

    def deploy(*given):
        deployed.append(real(*given))
        return deployed[0]

    monkeypatch.setattr(module, "deploy", deploy)
    layers = {"kind": "Magnitude", "shape": "layers", "sparsity": {"kind": "Cubic", "to": 0.5, "stop": "50%"}}
    report = run(tiny_run, **{"prune": {"layers": layers}, "trainer.max_epochs": 1, "losses.relations": None})
    folder = tiny_run.parent / "runs" / "tiny"
    student = AutoModelForSequenceClassification.from_pretrained(folder / "student")
    blocks = student.config.sizes["encoder"]
    headless, flat = (sum(block[key] == 0 for block in blocks) for key in ("heads", "intermediate"))
    assert headless + flat == 2 and student.config.model_type == "resized-bert"
    assert max(float(row["sparsity"] or 0) for row in rows(folder)) > 0.3

    gone = [entry for entry in deployed[0].layers if not entry["parameters"]]
    assert {entry["name"] for entry in gone} < {entry["name"] for entry in deployed[0].layers}
    assert len(gone) == 4 * headless + 2 * flat
    assert all((entry["sparsity"], entry["bits"]) == (0, None) and entry["parameters_before"] for entry in gone)
    assert max(deployed[0].parity.values()) < 1e-4
    assert "nan" not in (folder / "report.html").read_text().lower().split("<svg")[-1]
    assert "NaN" not in (folder / "report.json").read_text()
    assert json.loads((folder / "report.json").read_text())["models"]["student"]["parameters"] == sum(
        parameter.numel() for parameter in student.parameters()
    )
    assert report.models["student"].parameters < report.models["teacher"].parameters

    inputs = {"input_ids": torch.tensor([[2, 7, 9, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    inputs["token_type_ids"] = torch.zeros(1, 4, dtype=torch.long)
    said = OnnxModel(folder / "student.onnx")(inputs)
    assert (said - torch_predict(student)(inputs)).abs().max() < 0.1
