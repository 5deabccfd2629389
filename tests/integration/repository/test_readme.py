"""What README and the pages behind it promise: commands exist, the config runs, tables name what is there."""

import re
from pathlib import Path

import pytest

from benchmarks import quickstart
from distill.config.loader import load
from distill.config.schema import subclasses
from distill.experiment.experiment import Experiment
from distill.tasks.task import Task

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_the_config_it_shows_is_read(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    file = tmp_path / "shown.yaml"
    file.write_text(block)
    assert set(load(file, Experiment).value.losses) == {"hidden", "logits"}
    assert len(block.splitlines()) == 10


def test_it_is_one_screen():
    assert len(README.splitlines()) <= 60
    assert max(map(len, README.splitlines())) <= 120


def test_its_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake (\w+)", re.sub(r"```yaml.*?```", "", README, flags=re.S))) - {"it"}
    assert named >= {"quickstart", "test"}
    assert named - {"s"} <= targets


def test_ci_checks_before_it_tests():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-2:] == ["make check", "make test"]


def test_every_config_has_a_line():
    page = (ROOT / "docs" / "guide" / "configs.md").read_text()
    for config in (ROOT / "configs").glob("*.yaml"):
        assert f"| `{config.name}` |" in page
    for config in (ROOT / "benchmarks" / "configs").rglob("*.yaml"):
        assert f"| `{config.parent.name}/{config.name}` |" in page


def test_every_task_has_a_line():
    page = (ROOT / "docs" / "usage.md").read_text()
    # Other tests import the examples, which have tasks too.
    own = {name for name, cls in subclasses(Task).items() if cls.__module__.startswith("distill.")}
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == own


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_a_page_are_short(page):
    """Under 120 characters outside code and tables; cells of tables under 60, but for those of results."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S).splitlines()
    code = re.compile(r"\s*(- )?`[^`]*`[:;.]?")
    assert [line for line in prose if len(line) >= 120 and not line.startswith("|") and not code.fullmatch(line)] == []
    cells = [cell.strip() for line in prose if line.startswith("|") for cell in line.strip("|").split("|")]
    assert "results" in str(page.relative_to(ROOT)) or [cell for cell in cells if len(cell) > 60] == []


def test_quickstart_runs(tmp_path, monkeypatch, capsys):
    """All of ``make quickstart`` but the length of its training."""
    monkeypatch.chdir(tmp_path)
    assert quickstart.main(["--steps", "6"]) == 0
    table = capsys.readouterr().out
    for row in ("teacher", "student, no teacher", "student, distilled"):
        assert re.search(rf"^{row}.*MB.*ms", table, re.M), table
    report = re.search(r"^report: (.*)$", table, re.M)[1]
    assert Path(report).read_text().startswith("<!doctype html>")


@pytest.mark.skipif(not (ROOT / "../shared/data/sst2").exists(), reason="needs the shared data")
def test_measured_config_is_read_with_its_data():
    config = load(ROOT / "benchmarks/configs/classification/sst2-minilm.yaml", Experiment).value
    assert Path(ROOT / config.task.data).exists() and Path(ROOT / config.teacher.model).exists()
