"""A whole experiment from a file, and printed so that it reads back to the same."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.config.loader import load
from distill.config.writer import to_yaml
from distill.experiment.experiment import Experiment

FILE = """\
task: {name: classification, data: data.csv, text: [a, b]}
teacher: teacher
student: {kind: Transformer, layers: 1}
losses:
  hidden: {kind: HiddenMSE, layers: {1: 2}, stop: 2 epochs, weight: {kind: Linear, to: 0.1}}
  logits: {kind: Logits, temperature: {kind: Steps, at: {30%: 2, 60 steps: 1.0}, initial: 4}}
prune:
  early: {kind: Magnitude, sparsity: {kind: Cubic, to: 0.5}}
  heads: {kind: Magnitude, sparsity: 0.25, shape: heads}
quantize: {start: 50%}
optimizer: {schedule: {kind: Cyclic, to: 1, cycles: 3}}
trainer: {max_epochs: null, max_steps: 9, precision: bf16-mixed, devices: [0]}
tracking: {wandb: project}
"""


def read(folder: Path, text: str, **overrides: Any) -> Experiment:
    (folder / "x.yaml").write_text(text, "utf-8")
    return load(folder / "x.yaml", Experiment, overrides).value


def same(one: Experiment, other: Experiment) -> None:
    """Equal in every field; losses are modules, which are equal by their fields."""
    for f in fields(Experiment):
        if f.name != "losses":
            assert getattr(one, f.name) == getattr(other, f.name), f.name
    assert one.losses.keys() == other.losses.keys()
    for name, loss in one.losses.items():
        assert type(loss) is type(other.losses[name])
        assert [getattr(loss, f.name) for f in fields(loss)] == [
            getattr(other.losses[name], f.name) for f in fields(loss)
        ]


def test_what_is_printed_reads_back_to_the_same(tmp_path: Path) -> None:
    experiment = read(tmp_path, FILE)
    text = to_yaml(experiment)
    again = read(tmp_path, text)
    same(experiment, again)
    assert to_yaml(again) == text
    assert experiment.trainer["max_epochs"] is None, "an explicit null is kept"


def test_what_is_printed_is_complete(tmp_path: Path) -> None:
    printed = yaml.safe_load(to_yaml(read(tmp_path, FILE)))
    assert printed.keys() == {f.name for f in fields(Experiment)}
    assert printed["task"]["name"] == "classification" and printed["task"]["batch_size"] == 32
    assert printed["teacher"] == "teacher"
    assert printed["losses"]["logits"]["weight"] == 1.0
    assert printed["losses"]["hidden"]["weight"] == {
        "kind": "Linear",
        "to": 0.1,
        "initial": 0.0,
        "start": "0%",
        "stop": "100%",
    }
    assert printed["losses"]["hidden"]["layers"] == {1: 2}
    assert printed["trainer"]["accumulate_grad_batches"] == 1


CHARACTERS = st.characters(codec="utf-8", exclude_characters="/", exclude_categories=("Cc", "Cs"))
# No names of a folder: a tilde is the home folder.
NAMES = st.text(CHARACTERS, min_size=1).filter(lambda name: name not in (".", "..", "~"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=NAMES,
    rate=st.floats(1e-12, 1e12),
    seed=st.integers(0, 2**32 - 1),
    percent=st.integers(0, 100),
    betas=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    project=st.booleans(),
)
def test_any_value_reads_back(
    tmp_path: Path, name: str, rate: float, seed: int, percent: int, betas: list[float], project: bool
) -> None:
    values = {
        "name": name,
        "seed": seed,
        "optimizer.lr": rate,
        "optimizer.betas": betas,
        "losses.hidden.start": f"{percent}%",
        "losses.hidden.project": project,
        "losses.logits.weight": rate,
    }
    experiment = read(tmp_path, FILE)
    experiment.name, experiment.seed, experiment.optimizer.lr, experiment.optimizer.betas = (
        name,
        seed,
        rate,
        betas,
    )
    text = to_yaml(experiment)
    same(experiment, read(tmp_path, text))
    given_here = read(tmp_path, FILE, **{key: value for key, value in values.items() if key != "name"})
    assert (given_here.seed, given_here.optimizer.lr, given_here.optimizer.betas) == (seed, rate, betas)
    assert (str(given_here.losses["hidden"].start), given_here.losses["hidden"].project) == (
        f"{percent}%",
        project,
    )
    assert given_here.losses["logits"].weight.to == rate


def test_null_takes_an_entry_away(tmp_path: Path) -> None:
    experiment = read(tmp_path, FILE, **{"losses.hidden": "null", "prune.early": None})
    assert list(experiment.losses) == ["logits"] and list(experiment.prune) == ["heads"]
