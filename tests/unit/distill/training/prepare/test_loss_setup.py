"""Class weights come from the training rows of a run, by the names of the outputs."""

from pathlib import Path

import pytest

from distill.experiment.runs import read_runs
from distill.training.prepare.plan import plan
from tests.helpers.fitted import CONFIG, refused
from tests.helpers.tables import write


def test_balanced_weights_are_those_of_the_training_rows(folder: Path) -> None:
    rows = [{"text": "one zebra", "label": "positive" if i % 4 else "negative"} for i in range(40)]
    write(folder / "unbalanced.jsonl", rows)
    (folder / "x.yaml").write_text(CONFIG.format(folder=folder, teacher=folder / "turned"))
    given = {"losses": "{labels: {kind: Labels, class_weights: balanced}}"}
    given["teacher"] = f"{{model: {folder / 'turned'}, check: false}}"
    (config,) = read_runs(folder / "x.yaml", {"task.data": str(folder / "unbalanced.jsonl")} | given)
    plan(config, folder / "runs" / "x")
    task, loss = config.value.task, config.value.losses["labels"]
    assert task.classes.names == ["POSITIVE", "Negative "]
    counts = [task.facts.classes[name]["train"] for name in task.classes.names]
    assert sum(counts) == 36 and loss.weight_table.tolist() == pytest.approx([18 / count for count in counts])


def test_a_class_that_is_not_there_is_refused(folder: Path) -> None:
    message = refused(folder, "named", losses="{labels: {kind: Labels, class_weights: {good: 2.0}}}")
    assert "there is no class 'good'; there are negative, positive" in message
