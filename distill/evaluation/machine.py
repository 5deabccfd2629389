"""The environment of a run: versions of libraries, hardware, command."""

from __future__ import annotations

import platform
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
    """Return the command line of this process, from the program's name on."""
    return " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
