"""The environment of a run: versions of libraries, hardware, command."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import torch


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that affect the numbers."""
    libraries = ("torch", "lightning", "transformers", "datasets", "torchmetrics", "onnxruntime")
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}


def hardware() -> dict[str, str | int]:
    """Return the hardware on which latencies are measured."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")),
            cpu,
        )
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"cpu": cpu, "threads": torch.get_num_threads(), "accelerator": accelerator}


def command_line() -> str:
    """Return the command that does the work of this process from the beginning; empty in a notebook or a console.

    It names the program as it was started (``python train.py``, ``distill``, ``python -m benchmarks.quickstart``), and
    leaves out ``--resume``.
    """
    program, module = Path(sys.argv[0]), getattr(sys.modules.get("__main__"), "__spec__", None)
    if module is not None and module.name != "ipykernel_launcher":
        start = ["python", "-m", module.name.removesuffix(".__main__")]
    elif program.suffix == ".py" and module is None:
        inside = program.is_absolute() and program.is_relative_to(Path.cwd())
        start = ["python", str(program.relative_to(Path.cwd()) if inside else program)]
    elif program.name and module is None and not program.name.startswith("-"):
        start = [program.name]
    else:
        return ""
    words, resume = [], False
    for word in sys.argv[1:]:
        is_value, resume = resume and word == "auto", word == "--resume"
        if not (is_value or word == "--resume" or word.startswith("--resume=")):
            words.append(word)
    return shlex.join([*start, *words])
