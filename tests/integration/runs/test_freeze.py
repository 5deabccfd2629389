"""Freezing: parameters that are fixed until a time point, and trained after it."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from distill import run
from distill.config.loader import ConfigError
from distill.experiment.optimizer import Optimizer
from distill.training.optimizer import frozen_parameters
from losses.outputs.labels import Labels
from prune_schedules.schedule import Timeline, TimePoint
from students.weights import add_weight_transform, parameter_names
from tests.helpers.families import tiny
from tests.helpers.runs import resumes_bit_for_bit
from tests.unit.distill.training.test_module import fit, module

BLOCK = "bert.encoder.layer.0."


def frozen(optimizer: Optimizer, student: nn.Module, step: int = 0) -> set[str]:
    names = parameter_names(student)
    return {name for p in frozen_parameters(optimizer, student, step, Timeline(10, 5)) for name in names[id(p)]}


def test_a_pattern_names_parameters_until_its_time_point():
    student = tiny("bert", layers=2)
    optimizer = Optimizer(freeze={"*embeddings*": TimePoint("30%"), f"{BLOCK}*": TimePoint("1 epoch")})
    every = {name for name, _ in student.named_parameters()}
    table, block = ({name for name in every if part in name} for part in ("embeddings", BLOCK))
    assert table and block
    assert frozen(optimizer, student) == frozen(optimizer, student, 2) == table | block
    assert frozen(optimizer, student, 3) == frozen(optimizer, student, 4) == block
    assert frozen(optimizer, student, 5) == set()


def test_a_name_is_that_of_the_file_under_masks_and_for_each_use_of_a_tied_weight():
    class Twice(nn.Module):
        order = 0

        def forward(self, weight):
            return 2 * weight

    student = tiny("bert", layers=1)
    add_weight_transform(student.classifier, Twice())
    assert frozen(Optimizer(freeze={"classifier.weight": TimePoint("50%")}), student) == {"classifier.weight"}
    tied = nn.ModuleDict({"one": nn.Linear(2, 2, bias=False), "other": nn.Linear(2, 2, bias=False)})
    tied["other"].weight = tied["one"].weight
    assert frozen(Optimizer(freeze={"other.*": TimePoint("50%")}), tied) == {"one.weight", "other.weight"}


def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(tmp_path):
    built = module(labels=Labels())
    built.optimizer = Optimizer(lr=1e-2, weight_decay=0.5, freeze={f"{BLOCK}*": TimePoint("3 steps")})
    built.timeline = Timeline(4, 2)
    seen = [{name: p.clone() for name, p in built.student.state_dict().items()}]
    real = built.optimizer_step

    def watched(*args, **kwargs):
        real(*args, **kwargs)
        seen.append({name: p.clone() for name, p in built.student.state_dict().items()})

    built.optimizer_step = watched
    fit(built, 4, 1, tmp_path, epochs=2)
    moved = [{name for name in old if not torch.equal(old[name], new[name])} for old, new in pairwise(seen)]
    block = {name for name in seen[0] if name.startswith(BLOCK)}
    assert len(moved) == 4 and block
    assert all(not step & block and "classifier.weight" in step for step in moved[:3])
    assert block <= moved[3] | {f"{BLOCK}attention.self.key.bias"}  # a key's bias has no gradient, up to rounding


def test_what_is_frozen_is_outside_the_norm_by_which_gradients_are_clipped(tmp_path):
    built = module(labels=Labels())
    built.optimizer = Optimizer(freeze={"bert.*": TimePoint("100%")})
    norms = []
    built.configure_gradient_clipping = lambda *_, **__: norms.append(
        {name for name, p in built.named_parameters() if p.grad is not None}
    )
    fit(built, 8, 1, tmp_path)
    assert norms == [{"student.classifier.weight", "student.classifier.bias"}]


@pytest.mark.parametrize("pattern, near", [("encoder.layer.0.*", "bert.encoder.layer.0.*"), ("zzz", None)])
def test_a_pattern_without_a_match_is_refused_before_the_run(tiny_run, pattern, near):
    message = rf"optimizer\.freeze: no parameter of the student is called '{pattern}'.*; "
    with pytest.raises(ConfigError, match=message + (f"did you mean '{near}'" if near else "the first is bert.emb")):
        run(tiny_run, **{"optimizer.freeze": {pattern: "50%"}})
    assert not (tiny_run.parent / "runs").exists()


def test_a_moment_outside_the_run_is_told_at_its_pattern(tiny_run):
    with pytest.raises(ConfigError, match=r"optimizer\.freeze.*: '99 epochs' is step 792"):
        run(tiny_run, **{"optimizer.freeze": {"bert.*": "99 epochs"}})


@pytest.mark.parametrize("stop", [5, 12])
def test_resumes_bit_for_bit_inside_and_after_the_window(tiny_run, monkeypatch, stop):
    given = {"optimizer.freeze": {"*embeddings*": "40%", f"{BLOCK}*": "60%"}}
    resumes_bit_for_bit(monkeypatch, stop, 16, tiny_run, **given)
