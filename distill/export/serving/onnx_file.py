"""Write ``student.onnx`` for a finished run that has none."""

from __future__ import annotations

from pathlib import Path

from distill.config.errors import ConfigError
from distill.export.export import write_onnx
from distill.export.serving.deployment import find_student
from distill.export.serving.predictor import load


def write_missing_onnx(run: str | Path) -> Path:
    """Write ``student.onnx`` beside the student of a run, in float32, and return its path; an existing one stays.

    Raises:
        ConfigError: if the run is not finished, its weights are packed codes, or its model cannot be exported.
    """
    student = find_student(run)
    path = student.parent / "student.onnx" if student.name == "student" else student / "onnx" / "model.onnx"
    if path.is_file():
        return path
    predictor = load(run, "torch")
    if predictor.path.suffix == ".safetensors":
        raise ConfigError(f"{predictor.path}: has codes that ONNX Runtime does not read; it is served by torch")
    if predictor.task.writes_text:
        raise ConfigError(f"{student}: writes texts, which `export: onnx` in the config of a run exports")
    path.parent.mkdir(exist_ok=True)
    encoded = predictor.task.encode_inputs({name: ["a text", "another text"] for name in predictor.columns})
    batch = predictor.collate([{name: values[i] for name, values in encoded.items()} for i in range(2)])
    write_onnx(predictor.model, batch, path, None)
    return path
