"""What the page shows of single rows, and what the report doubts."""

import pytest
import torch
from datasets import Dataset

from distill.evaluation.deployed import DeployedStudent, ExportStats
from distill.evaluation.evaluate import is_deployable, latency_rows
from distill.evaluation.measure import EvalResult, ModelStats
from distill.reporting.details import page_details
from distill.reporting.report_warnings import changed_outputs
from distill.tasks.classes import Classes
from distill.tasks.kinds.language.masked import MaskedLM
from distill.tasks.kinds.texts import Classification

STUDENT = DeployedStudent(None, None, None, parity={}, layers=[], notes=[], precision="float32")


def result(predictions: list[int], certainty: list[float]) -> EvalResult:
    return EvalResult({}, torch.tensor(predictions), torch.tensor(certainty))


def test_rows_on_which_two_models_differ_come_first():
    task = Classification(data="x")
    task.texts, task.classes = ["text"], Classes(["bad", "good"], feature=["bad", "good"])
    task.validation = Dataset.from_list([{"text": word, "label": i % 2} for i, word in enumerate("abcd")])
    both = {
        "teacher": result([0, 1, 1, 0], [0.9, 0.8, 0.6, 0.9]),
        "student": result([0, 0, 0, 0], [0.9, 0.9, 0.6, 0.5]),
    }
    details = page_details(task, both, [3, 2, 1, 0], STUDENT, [])
    assert [example["text"] for example in details["examples"]] == ["c", "b", "a", "d"]
    first = details["examples"][0]
    assert (first["label"], first["teacher"], first["student"]) == ("bad", "good", "bad")
    assert details["agreement"]["counts"] == [[2, 0], [2, 0]]


def test_a_batch_of_32_is_one_whatever_the_rows():
    lengths = {1: [3], 2: [9, 1], 5: [2, 8, 5, 1, 9], 33: list(range(1, 34)), 80: list(range(1, 81))}
    middle = {1: 3, 2: 9, 5: 5, 33: 17, 80: 41}
    for count, numbers in lengths.items():
        rows = latency_rows(Dataset.from_dict({"input_ids": [[7] * length for length in numbers]}))
        assert len(rows["batch_32"]) == 32
        assert len(set(rows["batch_32"])) == min(32, count)
        assert [numbers[row] for row in rows["batch_1"]] == [middle[count]]
    assert sorted(numbers[row] for row in rows["batch_32"]) == list(range(25, 57))


def test_pieces_of_raw_text_are_no_rows_of_the_data():
    """There may be as many hidden words as pieces, and more pieces than lines."""
    task = MaskedLM(data="x")
    task.texts, task.validation = ["text"], Dataset.from_list([{"text": "one long line"}])
    both = {name: result([7, 8, 9], [0.5, 0.5, 0.5]) for name in ("teacher", "student")}
    assert "examples" not in page_details(task, both, [2, 1, 0], STUDENT, [])


@pytest.mark.parametrize("exact", [True, False], ids=["weights alone", "inputs, too"])
def test_a_file_of_few_bits_that_is_not_what_was_trained_is_doubted(exact):
    """Inputs that are rounded make far greater differences, by themselves."""
    deployed = DeployedStudent(
        None, None, None, {"exported": 0.02}, layers=[], notes=[], precision="4-bit", exact=exact
    )
    warnings = ["the exported student's logits differ by up to 0.02 from those in training"]
    assert changed_outputs([], deployed) == (warnings if exact else [])


@pytest.mark.parametrize(("size", "counts"), [(58_946_899, True), (14_000_000, True), (60_000_000, False)])
def test_a_file_asked_for_counts_as_the_student_unless_it_is_larger(size, counts):
    """Of float32 a file holds the weights and a graph."""
    folded = ModelStats({}, 14_732_354, 14_732_347, 58_929_416, 0, {})
    export = ExportStats("onnx", "student.onnx", size, {}, {}, 1.0, 0.0, "float32")
    assert is_deployable(export, folded) == counts
