"""What docs/guide/first-run.md tells a person to write and to start does what it says, with a tiny model."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.repositories import save_tiny_bert, sentences

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "guide" / "first-run.md").read_text()

pytestmark = pytest.mark.slow


def python(folder: Path, *arguments: str) -> str:
    """Return the output of Python started in a folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_page_from_its_csv_to_its_answers(tmp_path):
    save_tiny_bert(tmp_path / "my-model", layers=4, labels=["negative", "positive"])
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([row["sentence"], ["negative", "positive"][row["label"]]] for row in sentences(80, 0))
    init, check, train, _, predict = [
        shlex.split(line, comments=True)[1:] for line in re.findall(r"^distill (?!--).*$", PAGE, re.M)
    ]
    python(tmp_path, "-m", "distill", *init)
    made = yaml.safe_load((tmp_path / "first.yaml").read_text())
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    assert {key: sorted(value) for key, value in yaml.safe_load(shown).items()} == {
        key: sorted(value) for key, value in made.items()
    }
    # The random teacher may be worse than the most frequent class, which is refused.
    words = ["--teacher={model: my-model, check: false}", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]
    assert "positive" in python(tmp_path, "-m", "distill", *check, *words)
    assert not (tmp_path / "runs").exists()
    python(tmp_path, "-m", "distill", *train, *words)
    assert (tmp_path / "runs" / "first" / "report.html").exists()
    answers = [json.loads(line) for line in python(tmp_path, "-m", "distill", *predict).splitlines()]
    assert [answer["text"] for answer in answers] == ["a warm and funny film", "flat and lazy"]
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert re.fullmatch(r"\['(negative|positive)', '(negative|positive)'\]\n", python(tmp_path, "-c", script))
