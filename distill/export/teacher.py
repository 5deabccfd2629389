"""The teacher in the runtime of the exported student, so that its speed can be split into architecture and runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from distill.evaluation.deployed import DeployedStudent, ExportedFile
from distill.evaluation.measure import torch_predict
from distill.export.export import max_abs_difference
from distill.run_dir.files import DRAFT
from distill.teachers.teacher import FrozenTeacher
from quant_aware.export.onnx import export_onnx
from quant_aware.export.onnx_model import OnnxModel

MAX_PARAMETERS = 480_000_000
"""Of a file in float32, whose format ends at 2 GB."""


@contextmanager
def exported_teacher(
    deployed: DeployedStudent, teachers: dict[str, FrozenTeacher], batch: dict[str, Tensor], folder: Path
) -> Iterator[ExportedFile | None]:
    """Yield the teacher as a float32 ONNX file, which is removed after the block; None if the student has no ONNX file.

    Several teachers are not exported. A teacher that cannot be is a note of the report.

    Args:
        deployed: the student.
        teachers: the teachers by name.
        batch: a batch of the run, to compare the file with the model.
        folder: the run folder.
    """
    if not deployed.export or deployed.export.format != "onnx" or list(teachers) != ["teacher"]:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix=".teacher", suffix=DRAFT, dir=folder) as temporary:
        try:
            exported = _export(teachers["teacher"], batch, Path(temporary) / "teacher.onnx")
        except Exception as error:  # the exporter may raise anything, and a run must not fail for a comparison
            reason = str(error).partition("\n")[0] or type(error).__name__
            deployed.report_notes.append(f"the teacher was not measured in onnxruntime: {reason[:200]}")
            exported = None
        yield exported


def _export(teacher: FrozenTeacher, batch: dict[str, Tensor], path: Path) -> ExportedFile:
    teacher.recorder.close()
    model = teacher.model.cpu()
    if model.num_parameters() > MAX_PARAMETERS:
        raise ValueError(f"it has {model.num_parameters():,} parameters, and a file in float32 has at most 2 GB")
    model = model if model.dtype == torch.float32 else deepcopy(model).float()
    batch = teacher.read(batch)
    export_onnx(model, batch, path)
    predict = OnnxModel(path)
    difference = max_abs_difference(torch_predict(model)(batch), predict(batch))
    # Float sums in another order differ in the last bits.
    if not difference < 0.01:
        raise ValueError(f"the file's logits differ by up to {difference:.2g}")
    return ExportedFile(path, predict, "onnx", "onnxruntime")
