"""What README promises: its commands exist, its config runs, its tables name what is there."""

import re
from pathlib import Path

import pytest

from benchmarks import quickstart
from distill.config.loader import load
from distill.experiment.experiment import Experiment

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_config_it_shows_is_read(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    file = tmp_path / "shown.yaml"
    file.write_text(block)
    assert set(load(file, Experiment).value.losses) == {"embeddings", "hidden", "attention", "logits"}


def test_its_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake (\w+)", re.sub(r"```yaml.*?```", "", README, flags=re.S))) - {"it"}
    assert named >= {"quickstart", "test"}
    assert named - {"s"} <= targets


def test_ci_runs_its_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_it_names_every_config_and_folder():
    for config in (ROOT / "configs").glob("*.yaml"):
        assert f"`{config.name}`" in README
    for folder in ("distill", "students", "losses", "quant_aware", "prune_schedules", "configs", "tests"):
        assert f"`{folder}/`" in README


def test_its_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_quickstart_runs(tmp_path, monkeypatch, capsys):
    """All of ``make quickstart`` but the length of its training."""
    monkeypatch.chdir(tmp_path)
    assert quickstart.main(["--steps", "20"]) == 0
    table = capsys.readouterr().out
    for row in ("teacher", "student, no teacher", "student, distilled"):
        assert re.search(rf"^{row}.*MB.*ms", table, re.M), table
    report = re.search(r"^report: (.*)$", table, re.M)[1]
    assert Path(report).read_text().startswith("<!doctype html>")


@pytest.mark.skipif(not (ROOT / "../shared/data/sst2").exists(), reason="needs the shared data")
def test_real_config_is_read_with_its_data():
    config = load("sst2-minilm.yaml", Experiment).value
    assert Path(ROOT / config.task.data).exists() and Path(ROOT / config.teacher.model).exists()
