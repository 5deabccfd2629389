"""The teacher is measured in the student's runtime too, so that a report can say what made the student faster."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill import run
from distill.evaluation.deployed import DeployedStudent
from distill.export import teacher
from distill.export.teacher import exported_teacher
from distill.teachers.teacher import FrozenTeacher
from tests.helpers.families import tiny
from tests.helpers.reports.promised import keeps_promises


def deployed(format: str = "onnx") -> DeployedStudent:
    return DeployedStudent(None, SimpleNamespace(format=format), None, {}, layers=[], notes=[], precision="float32")


def test_a_report_splits_faster_into_architecture_and_runtime(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.runner.exported_teacher", exported_teacher)
    given = {"prune": None, "quantize": {"weights": 8, "start": "50%"}, "losses": {"labels": {"kind": "Labels"}}}
    report = run(tiny_run, **given, **{"trainer.max_epochs": 1})
    saved = json.loads((report.folder / "report.json").read_text())
    keeps_promises(saved)
    models, metrics = saved["models"], {"accuracy", "f1", "matthews"}
    assert (
        models["teacher in onnxruntime"]["metrics"] == {} and models["teacher in onnxruntime"]["precision"] == "float32"
    )
    for name in ("teacher", "student", "student in torch"):
        model = models[name]
        assert model["intervals"].keys() == metrics
        assert all(low <= model["metrics"][metric] <= high for metric, (low, high) in model["intervals"].items())
        for batch, (low, high) in model["latency_spread_ms"].items():
            assert low <= model["latency_ms"][batch] <= high and 2 < model["latency_tokens"][batch] <= 32
    for batch, speedups in saved["speedups"].items():
        assert speedups["deployed"] == saved["ratios"][f"faster_{batch}"]
        parts = {name: models[name]["latency_ms"][batch] for name in models}
        assert speedups["torch"] == pytest.approx(parts["teacher"] / parts["student in torch"])
        assert speedups["onnxruntime"] == pytest.approx(parts["teacher in onnxruntime"] / parts["student"])
    assert saved["difference"].keys() == metrics and saved["baseline"].keys() == {"accuracy"}
    assert not [path for path in report.folder.rglob("*") if "teacher" in path.name]
    assert saved["exports"][0]["is_deployed"] is True


def test_a_teacher_that_cannot_be_exported_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("an operator is missing\nand much more")

    student = deployed()
    with monkeypatch.context() as patch:
        patch.setattr(teacher, "export_onnx", fail)
        with exported_teacher(student, {"teacher": FrozenTeacher(tiny("bert"))}, {}, tmp_path) as file:
            assert file is None
    with monkeypatch.context() as patch:
        patch.setattr(teacher, "MAX_PARAMETERS", 10)
        with exported_teacher(student, {"teacher": FrozenTeacher(tiny("bert"))}, {}, tmp_path) as file:
            assert file is None
    first, second = student.report_notes
    assert first == "the teacher was not measured in onnxruntime: an operator is missing"
    assert second.endswith("and a file in float32 has at most 2 GB") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("student", "teachers"), [(deployed("packed"), ["teacher"]), (deployed(), ["a", "b"]), (deployed(), [])]
)
def test_only_a_single_teacher_beside_an_onnx_file_is_exported(
    student: DeployedStudent, teachers: list[str], tmp_path: Path
) -> None:
    with exported_teacher(student, dict.fromkeys(teachers), {}, tmp_path) as file:
        assert file is None and student.report_notes == []
