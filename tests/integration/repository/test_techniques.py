"""docs/techniques/ and the code agree: every entry can be read, every class has an entry."""

import importlib
import inspect
import pkgutil
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

import distill
import losses
import prune_schedules
import quant_aware
import students
from distill.config.loader import load
from distill.config.schema import yaml_name
from distill.experiment.optimizer import Optimizer
from distill.tasks.augment.augmentation import Augmentation
from distill.tasks.task import Task
from distill.teachers.columns import Columns
from distill.teachers.ensemble import Teachers
from distill.teachers.judges.combined import Judges
from distill.teachers.judges.endpoint import Endpoint
from distill.teachers.judges.prompted_model import PromptedModel
from distill.teachers.moving_average import MovingAverage
from distill.teachers.peer import Peer
from distill.teachers.teacher import Teacher
from losses.loss import Loss
from prune_schedules.ranking import Scope
from prune_schedules.schedule import Schedule
from prune_schedules.scores.pruner import Pruner
from prune_schedules.targets.shapes import Shape
from quant_aware.quantize import Quantize
from students.forms.form import Form
from students.kinds.student import Student

ROOT = Path(__file__).parents[3]
PAGES = sorted((ROOT / "docs" / "techniques").glob("*.md"))
TEXT = "\n".join(page.read_text() for page in PAGES)
ROOMS = (distill, losses, prune_schedules, quant_aware, students)
HEADINGS = {
    "Tasks": "task",
    "Teachers": "teacher",
    "Augmentation": "augment",
    "Losses": "loss",
    "Pruning": "prune",
    "Quantization": "quantize",
    "Students": "student",
    "Replacing": "replace",
    "Schedules": "schedule",
}


@dataclass(kw_only=True)
class Fragment:
    """The part of a config that an entry sets."""

    task: Task | None = None
    teacher: Teacher | Teachers | MovingAverage | Peer | Columns | PromptedModel | Endpoint | Judges | None = None
    augment: Augmentation | None = None
    loss: Loss | None = None
    losses: dict[str, Loss] | None = None
    optimizer: Optimizer | None = None
    prune: Pruner | None = None
    quantize: Quantize | None = None
    student: Student | None = None
    replace: Schedule | None = None
    schedule: Schedule | None = None


def entries(heading: str) -> list[dict[str, str]]:
    """Return the entries of all sections of a heading: ``code`` (its first line), ``text``, and the fields ``*Name:*``.

    A section is a page, or a part of one, up to the next of ``HEADINGS``.
    """
    others = "|".join([*HEADINGS, "Left out", "The techniques"])
    section = "".join(re.findall(rf"^##? {heading}\b.*?(?=^##? (?:{others})\b|\Z)", TEXT, re.M | re.S))
    classes = []
    for code, body in re.findall(r"^- `([^`]+)`:\n((?:  .*\n)+)", section, re.M):
        text, *fields = re.split(r" ?- \*(\w+):\* ", " ".join(body.split()))
        classes.append({"code": code, "text": text, **dict(zip(fields[::2], fields[1::2], strict=True))})
    return classes


ENTRIES = [(heading, entry) for heading in HEADINGS for entry in entries(heading)]


def offered(base: type) -> set[str]:
    """The public classes below a class that can be made, those of our rooms (tests have some of their own)."""
    ours = base.__module__.partition(".")[0] in {room.__name__ for room in ROOMS}
    public = ours and not base.__name__.startswith("_") and not inspect.isabstract(base)
    names = {yaml_name(base)} if public else set()
    return names.union(*(offered(child) for child in base.__subclasses__()))


def fragment(entry: dict[str, str]) -> dict:
    """Return the YAML of an entry."""
    return yaml.safe_load(entry["code"])


@pytest.mark.parametrize("heading, entry", ENTRIES, ids=[str(fragment(entry)) for _, entry in ENTRIES])
def test_an_entry_has_its_fields_and_yaml_that_can_be_read(heading, entry, tmp_path):
    assert entry["text"] and entry["Notes" if heading == "Tasks" else "Use"]
    given = fragment(entry)
    (tmp_path / "row.yaml").write_text(yaml.safe_dump({HEADINGS[heading]: given}))
    value = getattr(load(tmp_path / "row.yaml", Fragment).value, HEADINGS[heading])
    teachers = {
        "judges": "Judges",
        "endpoint": "Endpoint",
        "prompt": "PromptedModel",
        "model": "Teacher",
        "members": "Teachers",
        "decay": "MovingAverage",
        "peer": "Peer",
        "columns": "Columns",
    }
    without_kind = {
        "Quantization": "Quantize",
        "Teachers": next((teachers[key] for key in teachers if key in given), ""),
    }
    assert yaml_name(type(value)) == (given.get("kind") or given.get("name") or without_kind[heading])


@pytest.mark.parametrize(
    "heading, base",
    [
        ("Tasks", Task),
        ("Augmentation", Augmentation),
        ("Losses", Loss),
        ("Pruning", Pruner),
        ("Students", Student),
        ("Schedules", Schedule),
    ],
)
def test_every_class_has_an_entry(heading, base):
    for room in ROOMS:
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)
    key = "name" if base is Task else "kind"
    assert {fragment(entry)[key] for entry in entries(heading)} == offered(base)


def test_every_form_has_an_entry(tmp_path):
    used = set()
    for entry in entries("Students"):
        (tmp_path / "row.yaml").write_text(yaml.safe_dump({"student": fragment(entry)}))
        used |= {type(form).__name__ for form in load(tmp_path / "row.yaml", Fragment).value.student.forms.values()}
    assert used == offered(Form)


def test_the_example_of_freezing_can_be_read(tmp_path):
    example = re.search(r"^  ```yaml\n(.*?)^  ```", TEXT, re.M | re.S)[1]
    (tmp_path / "example.yaml").write_text(textwrap.dedent(example))
    loaded = load(tmp_path / "example.yaml", Fragment).value
    assert [type(loss).__name__ for loss in loaded.losses.values()] == ["FeatureMap", "FeatureMap", "Logits"]
    assert loaded.optimizer.freeze["*.layer.1.*"] == loaded.losses["first"].stop


def test_every_shape_is_named():
    shapes = re.search(r"^The shapes,.*?\.$", TEXT, re.M | re.S)[0]
    assert set(re.findall(r"`(\w+)`", shapes)) == {"shape", *get_args(Shape)}
    used = [fragment(entry).get("shape", "elements") for entry in entries("Pruning")]
    assert {shape for shape in used if isinstance(shape, str)} == set(get_args(Shape))
    assert [4, 4] in used and "`[4, 4]`" in shapes


def test_every_scope_is_named():
    scopes = re.search(r"The scopes:(.*?)\.\s", TEXT, re.S)[1]
    assert set(re.findall(r"`(\w+)`", scopes)) == set(get_args(get_args(Scope)[0]))


@pytest.mark.skipif(not (ROOT / "../shared").exists(), reason="the catalogue is not here")
def test_ids_are_of_the_catalogue():
    catalogue = (ROOT / "../shared/reference/methods.md").read_text()
    known = set(re.findall(r"^\| (\w+) \|", catalogue, re.M))
    catalogued = [entry["Catalogue"] for heading in HEADINGS for entry in entries(heading) if "Catalogue" in entry]
    used = {name for text in catalogued for name in re.findall(r"\b[A-Z]\d+[a-z]?\b", text)}
    assert len(used) > 50
    assert used <= known


# Several at once are judged by the mean of what each is judged by; there is nothing to choose.
CHOOSING = [entry for entry in entries("Tasks") if fragment(entry)["name"] != "multi_task"]


@pytest.mark.parametrize("entry", CHOOSING, ids=lambda entry: fragment(entry)["name"])
def test_a_task_has_the_metrics_that_are_named(entry, tmp_path):
    """The first is the main one, and each can be chosen."""
    named = re.sub(r" \(.*?\)", "", entry["Metrics"]).rstrip(".").split(", ")
    for name in named:
        (tmp_path / "row.yaml").write_text(yaml.safe_dump({"task": fragment(entry) | {"metric": name}}))
        assert load(tmp_path / "row.yaml", Fragment).value.task.main_metric == name
    (tmp_path / "row.yaml").write_text(yaml.safe_dump({"task": fragment(entry)}))
    task = load(tmp_path / "row.yaml", Fragment).value.task
    assert task.main_metric == named[0] and set(named) == set(get_args(get_type_hints(type(task))["metric"]))


def test_papers_have_arxiv_ids_or_the_conference_of_older_ones():
    linked = re.compile(r"\[(.*?)\]\(https://arxiv.org/abs/\1\)")
    for paper in (linked.sub(r"\1", entry["Paper"]).rstrip(".") for _, entry in ENTRIES if "Paper" in entry):
        assert re.search(r"\b\d{4}\.\d{5}|\b\d{4}\.\d{4}\b|\([A-Z]+\)$", paper), paper
        assert "](" not in paper, "a link leads to another paper than it names"
