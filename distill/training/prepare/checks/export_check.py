"""Write a student of a family that is only derived as ONNX before the first step, not after the last."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.training.prepare.checks.round_trip import logits_of, take_first_rows
from quant_aware.export.onnx import export_onnx
from quant_aware.export.onnx_model import OnnxModel
from students.families.families import is_listed

MAX_DIFFERENCE = 1e-3
"""The largest difference of logits relative to the largest logit: float sums in another order."""


def check_export(config: Config[Experiment], student: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    """Write the student as ONNX in a temporary folder, and compare the logits of some rows.

    Families of the table are tested by the project; of others nobody knows whether the exporter can write them.

    Raises:
        ConfigError: if the file cannot be written or run, or gives other logits.
    """
    experiment = config.value
    is_packed = experiment.quantize is not None and experiment.quantize.target == "packed"
    if is_listed(student.config) or is_packed or not (experiment.quantize or experiment.export):
        return
    model, batch = student.config.model_type, take_first_rows(batch)
    with config.error_context("export" if experiment.export else "quantize"):
        expected, written = logits_of(student, batch), _written_logits(student, batch)
        difference = float((expected - written).abs().max())
        if not difference <= MAX_DIFFERENCE * float(expected.abs().max()):
            raise ValueError(f"a {model} written as ONNX gives logits that differ by up to {difference:.2g}")


def _written_logits(student: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    mode = student.training
    with tempfile.TemporaryDirectory(prefix="export-check-") as folder:
        path = Path(folder) / "student.onnx"
        try:
            export_onnx(student, batch, path)
            return OnnxModel(path)(batch)
        except Exception as error:  # the exporter may raise anything
            reason = str(error.__cause__ or error).strip().partition("\n")[0][:300]
            raise ValueError(f"a {student.config.model_type} cannot be written as ONNX: {reason}") from error
        finally:
            student.train(mode)
