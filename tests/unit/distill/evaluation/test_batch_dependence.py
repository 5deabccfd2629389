"""Whether an answer is that of a text alone or of its batch is measured, and told."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from distill import run
from distill.evaluation.batch_dependence import BatchDependence, batch_dependence, padding_samples
from distill.evaluation.deployed import ExportStats
from distill.tasks.kinds.language.masked import MaskedLM
from losses.loss import IGNORED
from tests.helpers.worlds import three_classes


def padded(rows: list[dict]) -> dict[str, torch.Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row["input_ids"]) for row in rows], True)
    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


ROWS = Dataset.from_list([{"input_ids": list(range(1, 2 + i)), "labels": i % 3} for i in range(8)])
GROUPS = [[0, 1], [2, 3], [4, 5, 6], [7]]


def test_rows_of_two_batches_are_asked_alone_and_together():
    first, second = padding_samples(ROWS, GROUPS, padded, size=2)
    assert first.padded["input_ids"].tolist() == [[1, 0], [1, 2]]
    assert [batch["input_ids"].tolist() for batch in first.single] == [[[1]], [[1, 2]]]
    assert second.padded["input_ids"].shape == (2, 6) and len(second.single) == 2
    assert len(padding_samples(ROWS, GROUPS[:1], padded)) == 1


def test_what_company_changes_is_measured():
    """The third output falls by a hundredth of the largest id in the batch: of [1] it wins alone, but not beside 2."""

    def predict(batch):
        ids = batch["input_ids"]
        third = 0.015 - 0.01 * ids.max().float().expand(len(ids))
        return torch.stack([0 * ids[:, 0].float(), 0 * third - 1, third], 1)

    dependence = batch_dependence(three_classes(), predict, padding_samples(ROWS, GROUPS[:1], padded))
    assert dependence == BatchDependence(2, pytest.approx(0.01), 0.5)


def test_of_tokens_padding_is_not_looked_at():
    task = MaskedLM(data="x")
    task.tokenizer = range(5)
    rows = [{"input_ids": [3, 1, 2, 4][: 4 - i], "labels": [IGNORED, 2, 1, 1][: 4 - i]} for i in range(2)]

    def collate(rows):
        batch = {
            name: torch.nn.utils.rnn.pad_sequence([torch.tensor(row[name]) for row in rows], True, padding)
            for name, padding in (("input_ids", 0), ("labels", IGNORED))
        }
        return batch | {"attention_mask": (batch["input_ids"] > 0).long()}

    def predict(batch):
        logits = torch.nn.functional.one_hot(batch["input_ids"], 5).float()
        return torch.where(batch["attention_mask"][..., None] > 0, logits, 99.0)

    (sample,) = padding_samples(Dataset.from_list(rows), [[0, 1]], collate)
    assert batch_dependence(task, predict, [sample]) == BatchDependence(2, 0.0, 0.0)
    moved = batch_dependence(task, lambda batch: predict(batch) + 0.25 * len(batch["input_ids"]), [sample])
    assert moved == BatchDependence(2, 0.25, 0.0)


def exported(dependence: BatchDependence | None, departures: list[str]) -> ExportStats:
    return ExportStats("onnx", "student.onnx", 9, {}, {}, 1.0, 0.0, "int8", dependence, departures)


def test_what_is_doubtful_is_a_warning():
    assert exported(None, []).warnings == exported(BatchDependence(64, 0.2, 0.0), []).warnings == []
    (message,) = exported(BatchDependence(64, 1.56, 0.03125), []).warnings
    assert "differ by up to 1.6" in message and "3.1% of the predictions change (64 rows tried)" in message
    assert "activations: {granularity: token, symmetric: true}" in message
    assert len(exported(BatchDependence(64, 0.1, 0.02), []).warnings) == 1
    assert exported(None, ["lm_head.weight is float32"]).warnings == ["student.onnx: lm_head.weight is float32"]
    many = exported(None, [f"w{i} is float32" for i in range(9)]).warnings
    assert len(many) == 4 and many[-1] == "student.onnx: 6 more weights are not as they were trained"


@pytest.mark.parametrize("granularity", ["tensor", "token"])
def test_the_report_of_a_run_says_it(tiny_run: Path, granularity: str) -> None:
    activations = {"bits": 8, "granularity": granularity, "symmetric": granularity == "token"}
    report = run(tiny_run, name=granularity, quantize={"weights": 8, "activations": activations, "start": "50%"})
    (export,) = json.loads((report.folder / "report.json").read_text())["exports"]
    assert (export["format"], export["departures"]) == ("onnx", [])
    dependence = export["batch_dependence"]
    assert dependence["rows"] > 8
    assert (dependence["largest_difference"] < 1e-5) == (granularity == "token")
    assert dependence["changed"] == 0 or granularity == "tensor"
