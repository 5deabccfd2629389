"""A run with data and teacher of its own."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def own(materials: Path, tiny_run: Path) -> Path:
    """The tiny run, with data and teacher of its own; the folder that holds all."""
    folder = tiny_run.parent
    for name in ("data", "teacher"):
        shutil.copytree(materials / name, folder / name)
    tiny_run.write_text(tiny_run.read_text().replace(str(materials), str(folder)))
    return folder
