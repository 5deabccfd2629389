"""The folder of a run is continued only with the config it was begun with, as a reader of both would judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.config.config import Config
from distill.config.loader import ConfigError, load
from distill.config.writer import to_yaml
from distill.experiment.experiment import Experiment
from distill.training.prepare.run_folder import prepare_run_dir

TEXT = """
task: {name: classification, data: data.csv, text: text, label: label, max_length: 32, batch_size: 8}
teacher: teacher
student: {kind: Transformer, layers: 2}
losses: {logits: {kind: Logits}}
quantize: {weights: 8, activations: 8, start: 75%}
optimizer: {lr: 1e-3}
trainer: {max_epochs: 2}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config[Experiment]:
    file = tmp_path / "run.yaml"
    file.write_text(TEXT)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(load(file, Experiment).value))
    return load(file, Experiment)


def begun(config: Config[Experiment], folder: Path, old: str, new: str) -> None:
    """Resumes a run that was begun with ``new`` where its config now says ``old``."""
    file = folder / "config.yaml"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))
    prepare_run_dir(config, folder, resume=True)


def test_a_key_that_came_with_a_later_version_has_its_default(config: Config[Experiment], tmp_path: Path) -> None:
    begun(config, tmp_path / "run", "  bit_allocation: null\n", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start: 75%", "start: 50%", "quantize.start: is not what the run in"),
        ("lr: 0.001", "lr: 0.002", "optimizer.lr: is not what the run in"),
        ("seed: 0", "seed: 1", "seed: is not what the run in"),
        (
            "  bit_allocation: null\n",
            "  bit_alocation: null\n",
            "quantize.bit_alocation: Quantize has no 'bit_alocation'",
        ),
    ],
)
def test_another_value_is_refused_at_its_key(
    config: Config[Experiment], tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        begun(config, tmp_path / "run", old, new)
