"""A whole run at whose end half of the attentions and feed-forwards are gone: what is saved, exported and reported."""

import json
import re
import sys

import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.evaluation.measure import torch_predict
from quant_aware.export.onnx_model import OnnxModel
from tests.helpers.runs import resumes_bit_for_bit, rows, weights

LAYERS = {"kind": "Magnitude", "shape": "layers", "sparsity": {"kind": "Cubic", "to": 0.5, "stop": "50%"}}


def test_a_run_that_prunes_layers(tiny_run, monkeypatch):
    module = sys.modules["distill.runner"]  # the package's own name for it is the function
    deployed, real = [], module.export

    def export(*given):
        deployed.append(real(*given))
        return deployed[0]

    monkeypatch.setattr(module, "export", export)
    changes = {"trainer.max_epochs": 1, "losses.relations": None, "quantize.target": "onnxruntime"}
    run(tiny_run, prune={"layers": LAYERS}, **changes)
    folder = tiny_run.parent / "runs" / "tiny"
    student = AutoModelForSequenceClassification.from_pretrained(folder / "student")
    sizes = [(key, size) for block in student.config.block_sizes["encoder"] for key, size in block.items()]
    lost = [key for key, size in sizes if size == 0]
    assert len(lost) == 2 and student.config.model_type == "compact-bert"
    assert float([row["sparsity"] for row in rows(folder) if row["sparsity"]][-1]) > 0.3

    gone = [entry for entry in deployed[0].layers if not entry["parameters"]]
    assert len(gone) == 2 * lost.count("intermediate") + 4 * lost.count("heads")
    assert all((entry["sparsity"], entry["bits"]) == (0, None) and entry["parameters_before"] for entry in gone)
    assert deployed[0].parity["folded"] < 1e-5 and deployed[0].parity["cut"] < 1e-5
    assert re.search(r"\bnan\b", (folder / "report.html").read_text(), re.I) is None
    assert "NaN" not in (folder / "report.json").read_text()
    models = json.loads((folder / "report.json").read_text())["models"]
    assert models["student"]["parameters"] == sum(parameter.numel() for parameter in student.parameters())
    assert models["student"]["flops_per_example"] < models["teacher"]["flops_per_example"]

    inputs = {"input_ids": torch.tensor([[2, 7, 9, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    inputs["token_type_ids"] = torch.zeros(1, 4, dtype=torch.long)
    exported = OnnxModel(folder / "student.onnx")(inputs)
    assert (exported - torch_predict(student)(inputs)).abs().max() < 0.2


def test_they_leave_before_int8_begins_and_it_resumes_bit_for_bit(tiny_run, monkeypatch):
    elements = {"kind": "Magnitude", "sparsity": {"kind": "Cubic", "to": 0.3, "stop": "40%"}}
    given = {"prune": {"layers": LAYERS, "elements": elements}, "losses.relations": None}
    folder = resumes_bit_for_bit(monkeypatch, 13, 16, tiny_run, **given)
    assert sum(tensor.numel() == 0 for tensor in weights(folder).values()) >= 2
