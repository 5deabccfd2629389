"""What may be combined with what: flags, the rules over them, and the table in docs/guide/compatibility.md.

    python -m tests.unit.distill.experiment.test_compatibility

writes the table anew.
"""

from __future__ import annotations

import ast
import re
import textwrap
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from distill.config.config import Config
from distill.config.errors import ConfigError
from distill.experiment.compatibility import check_compatibility, conflicts
from distill.experiment.components import Component, components
from distill.experiment.experiment import Experiment
from distill.experiment.flags import FLAGS
from distill.experiment.rules import RULES
from distill.experiment.runs import read_runs
from prune_schedules.schedule import Timeline
from prune_schedules.scores.magnitude import Magnitude

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "guide" / "compatibility.md"
INTRO = """\
# What cannot be combined

Each entry is a rule of `distill/experiment/rules.py`: two things that exclude each other, and the message.
Everything else can be combined.
The rules are checked before the first step, and the error names the key of the first of the two.
`…` stands for names and numbers of the run.
"""
TEXT = """\
task: {{name: classification, data: data.csv}}
teacher: {teacher}
student: {{kind: Transformer, layers: 1}}
losses: {losses}
{more}
"""


def page() -> str:
    """Return the page made from the rules."""
    lines = [INTRO]
    for rule in RULES:
        reason = re.sub(r"(?<!\{)\{\w[^{}]*\}", "…", rule.reason).replace("{{", "{").replace("}}", "}")
        other = FLAGS[rule.other_flag] + " at the same step" * rule.at_same_step
        other = f"no {other.removeprefix('a ')}" if rule.is_required else other
        lines.append(f"- **{FLAGS[rule.flag]}** and **{other}**:")
        lines += textwrap.wrap(reason, 116, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def config(
    folder: Path, losses: str = "{logits: {kind: Logits}}", teacher: str = "teacher", more: str = ""
) -> Config[Experiment]:
    (folder / "x.yaml").write_text(TEXT.format(losses=losses, teacher=teacher, more=more))
    return read_runs(folder / "x.yaml", {})[0]


def declared() -> set[str]:
    """Every name that a class of ours has as an attribute or a property, or that a setting gets."""
    names = set()
    for room in ("distill", "losses", "prune_schedules", "quant_aware", "students"):
        for file in (ROOT / room).glob("**/*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    names |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                    names |= {part.target.id for part in node.body if isinstance(part, ast.AnnAssign)}
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "flags_of":
                    names |= {keyword.arg for keyword in node.keywords}
    return names


def test_the_page_is_made_from_the_rules():
    assert PAGE.read_text() == page(), "python -m tests.unit.distill.experiment.test_compatibility writes it"


def test_flags_are_declared_and_all_are_used():
    used = {flag for rule in RULES for flag in (rule.flag, rule.other_flag)}
    assert used == FLAGS.keys()
    assert used <= declared()


def test_no_class_is_named_in_the_rules():
    tree = ast.parse((ROOT / "distill" / "experiment" / "rules.py").read_text())
    assert "isinstance" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.flag}-{rule.other_flag}")
def test_each_rule_is_judged_on_its_two_flags_alone(rule):
    """Stand-ins with the flags and all that the message shows of them."""

    class Thing:
        teacher, name, precision, shape, rows, processes, least = "large", "large", "int8", "heads", 4, 2, 4

        def active_steps(self, timeline: Timeline) -> list[range]:
            return [range(3, timeline.total_steps)]

    Thing.members, Thing.tasks = {"one": 1}, {"other": 1}
    component = Component("losses.mine", Thing(), "mine", frozenset({rule.flag}))
    other = Component("prune", Thing(), "late", frozenset({rule.other_flag}))
    # `replace`, columns and vectors need one
    flags = {"is_teacher"} if rule.is_required else {"is_teacher", "is_frozen", "accepts_soft_labels"}
    teacher = Component("teacher", flags=frozenset(flags))
    together = list(conflicts([component, other, teacher], Timeline(5, 5)))
    if rule.is_required:
        assert together == [] and [key for key, _ in conflicts([component])] == ["losses.mine"]
        return
    ((key, why),) = together
    assert key == "losses.mine" and ("at step 3" in why) == rule.at_same_step
    assert [*conflicts([component, teacher], Timeline(5, 5)), *conflicts([other, teacher], Timeline(5, 5))] == []


@dataclass(kw_only=True)
class Loner(Magnitude):
    """A pruner from outside, that has not been made for shards."""

    needs_full_weights: ClassVar[bool] = True


@dataclass(kw_only=True)
class Sociable(Magnitude):
    """A pruner from outside, that says nothing of shards."""


@pytest.mark.parametrize(("kind", "refused"), [("Loner", True), ("Sociable", False)])
def test_a_pruner_from_outside_runs_on_shards_unless_it_says_otherwise(tmp_path, kind, refused):
    made = config(tmp_path, more=f"prune: {{late: {{kind: {kind}, sparsity: 0.5}}}}")
    parts = [*components(made.value), Component("trainer", flags=frozenset({"is_sharded"}))]
    message = r"x\.yaml:5: prune\.late\.kind: Loner needs full weights, and the models"
    with pytest.raises(ConfigError, match=message) if refused else nullcontext():
        check_compatibility(made, parts)


TWO = "{members: {large: one, small: two}}"


@pytest.mark.parametrize(
    ("teacher", "losses", "message"),
    [
        (
            TWO,
            "{states: {kind: HiddenMSE}}",
            "losses.states.teacher: the run has several teachers; name one of large, small",
        ),
        (
            TWO,
            "{states: {kind: HiddenMSE, teacher: big}}",
            "losses.states.teacher: the run has several teachers; name one of",
        ),
        (
            "one",
            "{states: {kind: HiddenMSE, teacher: large}}",
            "losses.states.teacher: 'large' names one of several teachers, and the run has a single one",
        ),
        (
            "{members: {large: {model: one, cache: true}, small: two}}",
            "{logits: {kind: Logits}}",
            "teacher.members.large.cache: augmented rows change in every epoch",
        ),
    ],
)
def test_the_place_is_that_of_the_component_at_fault(tmp_path, teacher, losses, message):
    more = "" if "cache" not in teacher else "export: onnx"
    with pytest.raises(ConfigError) as caught:
        if "cache" in teacher:
            text = TEXT.replace("data.csv}}", "data.csv, augment: {{kind: Masking}}}}")
            (tmp_path / "x.yaml").write_text(text.format(losses=losses, teacher=teacher, more=more))
            read_runs(tmp_path / "x.yaml", {})
        config(tmp_path, losses, teacher, more)
    assert message in str(caught.value)
    assert re.match(r".*x\.yaml:[24]: ", str(caught.value))


def test_one_of_several_teachers_that_is_named_goes(tmp_path):
    config(tmp_path, "{states: {kind: HiddenMSE, teacher: small}}", TWO)


if __name__ == "__main__":
    PAGE.write_text(page())
