"""A student that learnt nothing, and a form that was not reached, stand in the report, on the page, in the terminal."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill import run
from distill.evaluation.baseline import baseline_metrics
from distill.evaluation.deployed import ExportStats
from distill.evaluation.measure import EvalResult, ModelStats
from distill.reporting import report_warnings
from distill.reporting.publish import summary
from distill.reporting.report import Report
from distill.reporting.report_warnings import constant_predictions, losses_not_falling, no_better_than_baseline
from distill.tasks.kinds.several import MultiTask
from distill.tasks.kinds.texts import Regression
from losses.outputs.labels import Labels
from losses.outputs.logits import Logits
from prune_schedules.schedule import Constant, Linear
from prune_schedules.scores.magnitude import Magnitude
from tests.helpers.worlds import ready_task, save_data, save_teacher, three_classes

STILL = {"losses.hidden": None, "losses.relations": None, "quantize": None, "prune": None, "optimizer.lr": 1e-12}


def batches(*labels: list) -> list[dict[str, torch.Tensor]]:
    return [{"input_ids": torch.zeros(len(part), 2).long(), "labels": torch.tensor(part)} for part in labels]


def measured(**metrics: float) -> ModelStats:
    return ModelStats(metrics, 10, 10, 40, 0, {})


def test_the_commonest_class():
    task = three_classes()
    assert baseline_metrics(task, batches([2, 0, 2], [1, 2])) == {"accuracy": pytest.approx(3 / 5)}
    task.metric = "matthews"
    assert baseline_metrics(task, batches([2, 0, 2], [1, 2])) == {"matthews": 0.0}
    task.metric = "f1"  # precision 3/5 and recall 1 of one class in three
    assert baseline_metrics(task, batches([2, 0, 2], [1, 2])) == {"f1": pytest.approx(2 * 0.6 / 1.6 / 3)}


def test_the_frequencies_of_tokens(tmp_path, tokenizer):
    """Tokens 5, 5, 6 and 7: their entropy is 1.5 bits; what is not asked does not count."""
    task = ready_task("causal_lm", tmp_path)
    task.tokenizer = tokenizer
    data = batches([[5, 5, -100], [6, 7, -100]])
    assert baseline_metrics(task, data) == {"perplexity": pytest.approx(2**1.5, rel=1e-5)}
    task.metric = "accuracy"
    assert baseline_metrics(task, data) == {"accuracy": 0.5}


def test_numbers_have_a_constant_and_several_tasks_have_each_their_own():
    number, classes = Regression(data="none"), three_classes()
    assert baseline_metrics(number, batches([0.5, 2.0])) == {"spearman": 0.0}
    several = MultiTask(tasks={"mood": classes, "length": number})
    mixed = [batches([0, 1, 1])[0] | {"task": torch.tensor([0, 0, 0])}, batches([1.0])[0] | {"task": torch.tensor([1])}]
    assert baseline_metrics(several, mixed) == {"mood/accuracy": pytest.approx(2 / 3), "length/spearman": 0.0}


@pytest.mark.parametrize(
    ("metric", "score", "naive", "warned"),
    [
        ("accuracy", 0.95, 0.6, False),
        ("accuracy", 0.6, 0.6, True),
        ("accuracy", 0.2, 0.6, True),
        ("perplexity", 20.0, 30.0, False),
        ("perplexity", 31.0, 30.0, True),
        ("spearman", math.nan, 0.0, True),
        ("spearman", -0.3, 0.0, True),
        ("spearman", 0.1, 0.0, False),
    ],
)
def test_no_better_than_reading_nothing(metric, score, naive, warned):
    warnings = no_better_than_baseline("student", measured(**{metric: score}), {metric: naive})
    assert len(warnings) == warned
    if warned:
        assert warnings[0].startswith("the student is no better than a") and f"{naive:.4f}" in warnings[0]


def test_one_answer_for_all():
    def answers(*values: float) -> EvalResult:
        return EvalResult({}, torch.tensor(values), None)

    task, number = three_classes(), Regression(data="none")
    same = "all 4 predictions of the student on validation are the same, 'b'"
    assert constant_predictions(task, answers(1, 1, 1, 1), batches([0, 1, 2, 1])) == [same]
    assert constant_predictions(task, answers(1, 1, 0, 1), batches([0, 1, 2, 1])) == []
    assert constant_predictions(task, answers(1, 1, 1, 1), batches([1, 1, 1, 1])) == [], "it is right"
    flat = constant_predictions(number, answers(2.001, 2.0, 2.0005, 2.0), batches([0.0, 1.0, 4.0, 3.0]))
    assert len(flat) == 1 and "are the same, 2.001" in flat[0]
    assert constant_predictions(number, answers(2.5, 2.0, 1.5, 2.0), batches([0.0, 1.0, 4.0, 3.0])) == []


def logged(*values: float | None, weight: float = 1.0) -> list[dict]:
    return [{"step": i, "train/x": value, "train/x_weight": weight} for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("rows", "compress", "warned"),
    [
        (logged(*[3.0 - i / 10 for i in range(20)]), False, False),
        (logged(*[3.0] * 20), False, True),
        (logged(*[3.0 + i / 10 for i in range(20)]), False, True),
        (logged(*[3.0] * 19), False, False),  # too few
        (logged(*[3.0, None] * 20), False, True),
        (logged(*[3.0] * 20, weight=0.0), False, False),  # it does not count
        (logged(*[3.0] * 4, *[1.0] * 10, *[4.0] * 6), True, False),  # pruning let it rise
        (logged(*[3.0] * 4, *[1.0] * 10, *[4.0] * 6), False, True),
        (logged(*[3.0] * 4, *[3.5] * 16), True, True),
    ],
)
def test_a_loss_that_never_fell(rows, compress, warned):
    pruner = Magnitude(sparsity=Constant(0.5)) if compress else None
    experiment = SimpleNamespace(losses={"x": Labels()}, prune=pruner, quantize=None, replace=None)
    warnings = losses_not_falling(experiment, rows)
    assert [warning.split(":")[0] for warning in warnings] == ["the loss 'x' never fell"] * warned
    experiment.losses = {"x": Logits(temperature=Linear(initial=4.0, to=1.0))}
    assert losses_not_falling(experiment, rows) == [], "a loss that is another at each step"


def test_a_file_larger_than_its_bits():
    """A table of a million numbers in int8 that is there once more in float32, as a tied head was."""
    layers = [{"parameters": 1_000_000, "bits": 8}, {"parameters": 0, "bits": None}]

    def export(size: int) -> ExportStats:
        return ExportStats("onnx", "student.onnx", size, {}, {}, 1.0, 0.0, "int8")

    assert report_warnings.oversized_exports(layers, 1_010_000, [export(1_100_000)]) == []
    (warning,) = report_warnings.oversized_exports(layers, 1_010_000, [export(5_100_000)])
    assert warning.startswith("student.onnx takes 5,100,000 bytes, and its weights 1,040,000 in the bits")


def collapsed(model: Path, copy: Path) -> Path:
    """A copy of a classifier that says its first class, whatever it reads."""
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tensors = load_file(copy / "model.safetensors")
    tensors["classifier.weight"].zero_()
    tensors["classifier.bias"][0] = 1.0
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def strict(folder: Path) -> dict:
    """report.json, read as those read it who know no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads((folder / "report.json").read_text(), parse_constant=refuse)


def test_a_collapsed_student_is_told_everywhere(materials, tiny_run, tmp_path):
    student = collapsed(materials / "teacher", tmp_path / "collapsed")
    report = run(tiny_run, student=str(student), name="x", **STILL)
    negative = torch.tensor([row == 0 for row in report_labels(materials)]).float().mean().item()
    same = "all 16 predictions of the student on validation are the same, 'negative'"
    assert report.models["student"].metrics["accuracy"] == pytest.approx(negative)
    saved, page = strict(report.folder)["warnings"], (report.folder / "report.html").read_text()
    lines = summary(report).splitlines()
    assert not any("never predicts" in line for line in lines), "said once, as the only class"
    assert same in saved and f"warning: {same}" in lines and "on validation are the same" in page
    share = max(negative, 1 - negative)
    naive = f"the student is no better than a constant prediction: accuracy {negative:.4f}, and {share:.4f}"
    assert naive in saved and f"warning: {naive}" in lines and "no better than a constant prediction" in page


def report_labels(materials: Path) -> list[int]:
    from datasets import Dataset

    return list(Dataset.from_parquet(str(materials / "data" / "validation.parquet"))["label"])


def test_a_metric_that_is_undefined_is_null_and_named(tmp_path):
    """The correlation of a constant: no reason to stop, and no NaN in report.json."""
    (tmp_path / "data").mkdir()
    save_data("regression", tmp_path / "data")
    save_teacher("regression", tmp_path / "teacher")
    student = collapsed(tmp_path / "teacher", tmp_path / "collapsed")
    (tmp_path / "x.yaml").write_text(
        f"task: {{name: regression, metric: pearson, data: {tmp_path}/data, max_length: 32, batch_size: 8}}\n"
        f"teacher: {tmp_path}/teacher\nstudent: {student}\nlosses: {{logits: {{kind: LogitsMSE}}}}\n"
        f"optimizer: {{lr: 1.0e-12}}\noutput: {tmp_path}/runs\n"
        "trainer: {max_epochs: 1, accelerator: cpu}\n"
    )
    report = run(tmp_path / "x.yaml")
    saved = strict(report.folder)
    assert math.isnan(report.models["student"].metrics["pearson"])
    assert saved["models"]["student"]["metrics"]["pearson"] is None and saved["ratios"]["retained"] is None
    assert "models.student.metrics.pearson is nan, not a number" in saved["warnings"]
    assert "warning: models.student.metrics.pearson is nan, not a number" in summary(report).splitlines()
    assert any(line.startswith("the student is no better than a constant prediction") for line in saved["warnings"])


def test_numbers_that_json_does_not_have(tmp_path):
    models = {"student": ModelStats({"accuracy": math.nan}, 1, 1, 4, 0, {"batch_1": math.inf})}
    parity = {"cut": -math.inf}
    report = Report("x", "t", "accuracy", "", 0.0, "", 0, models, [], parity=parity, warnings=["a"], folder=tmp_path)
    report.write()
    saved = strict(tmp_path)
    student = saved["models"]["student"]
    assert student["metrics"]["accuracy"] is None and student["latency_ms"]["batch_1"] is None
    assert saved["parity"]["cut"] is None and saved["warnings"] == [
        "a",
        "models.student.metrics.accuracy is nan, not a number",
        "models.student.latency_ms.batch_1 is inf, not a number",
        "parity.cut is -inf, not a number",
    ]
    assert report.warnings == ["a"]
