"""One look before the first step: what was read, how data and models were joined, and whether a teacher knows anything.

Printed in the terminal, kept in report.json and on the page; ``--check`` does it and trains nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lightning import Trainer

from distill.config.config import Config
from distill.data import DataFacts
from distill.data.batches import Collator
from distill.evaluation.baseline import Score, scores
from distill.experiment.experiment import Experiment
from distill.training.parts import Parts

_MOST_CLASSES = 20


@dataclass
class Preflight:
    """What a run has before its first step.

    Args:
        data: what was read, by the name of the task; the name of a single one is empty.
        labels: by the name of the task {value of the data: class of the run}.
        outputs: of each model {its name of an output: class of the run}.
        scores: of each teacher on validation.
        notes: what else was done to the rows.
    """

    data: dict[str, DataFacts]
    labels: dict[str, dict[str, str]]
    outputs: dict[str, dict[str, str]]
    scores: dict[str, list[Score]]
    notes: list[str]

    @property
    def warnings(self) -> list[str]:
        """What may be a mistake."""
        return [_of(task, warning) for task, facts in self.data.items() for warning in facts.warnings] + self._useless()

    def _useless(self) -> list[str]:
        return [
            f"{name} is no better than what needs no model: {score.text()}"
            for name, some in self.scores.items()
            for score in some
            if score.useless
        ]

    def lines(self) -> list[str]:
        """The table, one fact a line."""
        found = [_of(task, line) for task, facts in self.data.items() for line in facts.table_lines()]
        found += [_of(task, f"labels: {_pairs(labels)}") for task, labels in self.labels.items() if labels]
        found += [f"outputs of {name}: {_pairs(outputs)}" for name, outputs in self.outputs.items()]
        for name, some in self.scores.items():
            found += [f"{name}: {score.text()}" for score in some]
        return found + self.notes + [f"warning: {warning}" for warning in self._useless()]

    def to_json(self) -> dict:
        """The data of ``preflight`` in report.json."""
        return {
            "data": {task: asdict(facts) for task, facts in self.data.items()},
            "labels": self.labels,
            "outputs": self.outputs,
            "scores": {name: [asdict(score) for score in some] for name, some in self.scores.items()},
            "lines": self.lines(),
        }


def preflight(config: Config[Experiment], parts: Parts, trainer: Trainer, begins: bool, resumes: bool) -> Preflight:
    """What was read, and how good the teachers are.

    Args:
        config: of the run.
        parts: what it is made of.
        trainer: whose device the teachers run on.
        begins: whether the first step comes next: then teachers are scored, by the first process.
        resumes: whether a later one does: then they are scored, and none is refused.

    Raises:
        ConfigError: if a teacher does worse than a constant prediction, and ``check`` is not off; or its outputs are
            not finite.
    """
    experiment, task = config.value, config.value.task
    scored: dict[str, list[Score]] = {}
    sharded = experiment.trainer.get("strategy") == "fsdp2"  # a teacher that needs shards fits nowhere by itself
    scores_any = (begins or resumes) and trainer.is_global_zero and not sharded
    for name, teacher in parts.teachers.items() if scores_any else ():
        own = task.parts[name] if experiment.has_teacher_per_task() else task
        rows = parts.rows["validation"].remove_columns("row")
        if experiment.has_teacher_per_task():
            rows = rows.select([i for i, kind in enumerate(task.row_groups(rows)) if kind == task.task_index(name)])
        collate = Collator(
            parts.tokenizer, getattr(teacher.model.config, "decoder_start_token_id", None), task.finalize_batch
        )
        key = "teacher" if len(parts.teachers) == 1 else f"teacher.members.{name}"
        with config.error_context(key):
            scored[name] = scores(teacher.model, own, rows, collate, trainer.strategy.root_device)
        for score in scored[name]:
            if begins and score.worse and experiment.teachers()[name].check:
                why = f"model: it does worse than a constant prediction: {score.text()}"
                advice = "are its outputs joined with the right classes? check: false trains with it all the same"
                raise config.error(key, f"{why}; {advice}")
    data = {name: part.facts for name, part in task.parts.items()}
    labels = {name: part.classes.labels() if part.classes else {} for name, part in task.parts.items()}
    # A number has no name.
    outputs = {name: pairs for name, pairs in parts.outputs.items() if any(pairs.values())}
    return Preflight(data, labels, outputs, scored, parts.notes)


def _pairs(names: dict[str, str]) -> str:
    more = f", and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
    return ", ".join(f"{one} → {other}" for one, other in list(names.items())[:_MOST_CLASSES]) + more


def _of(task: str, line: str) -> str:
    return f"{task}: {line}" if task else line
