"""The folder that is deployed or pushed to a hub: the student, its tokenizer, its card, and ``onnx/``."""

from __future__ import annotations

import shutil
from pathlib import Path

from distill.config.errors import ConfigError
from distill.export.serving.deployment import find_student
from quant_aware.export.packed import FILE as PACKED


def write_folder(run: str | Path, folder: Path) -> list[Path]:
    """Write the files that serve a student; transformers, ONNX Runtime and transformers.js read this layout.

    Args:
        run: the folder of a finished run, or of its student alone.
        folder: new or empty.

    Returns:
        The files.

    Raises:
        ConfigError: if ``run`` is not that of a finished run, or ``folder`` has files.
    """
    student = find_student(run)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; name a new folder")
    shutil.copytree(student, folder, dirs_exist_ok=True)
    if student.name == "student":
        for path in (student.parent / "student.onnx", student.parent / PACKED):
            if path.is_file():
                to = folder / "onnx" / _onnx_name(path) if path.suffix == ".onnx" else folder / path.name
                to.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, to)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _onnx_name(path: Path) -> str:
    """Return the name that transformers.js looks for: ``model_quantized`` if the weights are int8."""
    import onnx  # not above: --help must not wait for it

    initializers = onnx.load(path).graph.initializer
    is_int8 = any(tensor.data_type == onnx.TensorProto.INT8 for tensor in initializers)
    return "model_quantized.onnx" if is_int8 else "model.onnx"
