"""``task.yaml`` in a deployed student's folder: what its outputs mean, so that the folder alone can be served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from distill.config.errors import ConfigError
from distill.config.loader import load
from distill.config.writer import dump
from distill.run_dir.files import write_text
from distill.tasks.task import Task

FILE = "task.yaml"


@dataclass(kw_only=True)
class Deployment:
    """The task of a deployed student.

    Args:
        imports: modules that define the student or its task.
        task: of the run.
        columns: by task {column of the training data: its use}; the name of a single task is empty.
        labels: by task {label value of the training data: number of its output}; empty for tasks without classes. By
            number, as a class may be called by a number that is not its output's.
        name: of the run.
    """

    imports: list[str]
    task: Task
    columns: dict[str, dict[str, str]]
    labels: dict[str, dict[str, int]]
    name: str

    def write(self, student: Path) -> None:
        """Write the file into the folder of a student; of a local path of data only the last part, as it may move."""
        data = dump(self)
        for part in data["task"].get("tasks", {"": data["task"]}).values():
            for key in ("data", "unlabelled"):
                if part.get(key) and Path(part[key]).exists():
                    part[key] = Path(part[key]).name
        write_text(student / FILE, yaml.safe_dump(data, sort_keys=False, width=110))


def find_student(folder: str | Path) -> Path:
    """Return the folder of the student in a run folder, or the folder itself if it is a student's.

    Raises:
        ConfigError: if it is neither.
    """
    path = Path(folder)
    for student in (path / "student", path):
        if (student / FILE).is_file():
            return student
    if not path.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; name the folder of a run, as runs/tinybert")
    if (path / "config.yaml").is_file():
        raise ConfigError(f"{folder}: the run is not finished; continue it with --resume")
    raise ConfigError(f"{folder}: is not the folder of a run, nor of a student: it has no {FILE}")


def read_deployment(student: Path) -> Deployment:
    """Return the task of the student in a folder.

    Raises:
        ConfigError: if the file is damaged.
    """
    return load(student / FILE, Deployment).value
