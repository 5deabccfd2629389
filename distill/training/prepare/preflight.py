"""The preflight: data, labels, outputs of the models and scores of the teachers before the first step.

It is printed in the terminal and kept in report.json and on the page; ``--check`` prints it without training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lightning import Trainer

from distill.config.config import Config
from distill.data import DataFacts
from distill.data.batches import Collator
from distill.evaluation.baseline import BaselineScore, score_against_baseline, score_recorded
from distill.experiment.experiment import Experiment
from distill.training.parts import Parts

_MAX_CLASSES = 20


@dataclass
class Preflight:
    """Facts about data and models before the first step.

    Args:
        data: facts of the data by task; the name of a single task is empty.
        labels: by task {value in the data: class of the run}.
        outputs: by model {its name of an output: class of the run}.
        scores: the scores of each teacher on validation rows.
        notes: other changes of the rows.
    """

    data: dict[str, DataFacts]
    labels: dict[str, dict[str, str]]
    outputs: dict[str, dict[str, str]]
    scores: dict[str, list[BaselineScore]]
    notes: list[str]

    @property
    def warnings(self) -> list[str]:
        """Return warnings about the data, and about teachers that are no better than the baseline."""
        data = [_with_task(task, warning) for task, facts in self.data.items() for warning in facts.warnings]
        return data + self._teacher_warnings()

    def _teacher_warnings(self) -> list[str]:
        return [
            f"{name} is no better than a constant prediction: {score.text()}"
            for name, scores in self.scores.items()
            for score in scores
            if score.useless
        ]

    def lines(self) -> list[str]:
        """Return the facts as text, one a line."""
        lines = [_with_task(task, line) for task, facts in self.data.items() for line in facts.table_lines()]
        lines += [_with_task(task, f"labels: {_pairs(labels)}") for task, labels in self.labels.items() if labels]
        lines += [f"outputs of {name}: {_pairs(outputs)}" for name, outputs in self.outputs.items()]
        for name, scores in self.scores.items():
            lines += [f"{name}: {score.text()}" for score in scores]
        return lines + self.notes + [f"warning: {warning}" for warning in self._teacher_warnings()]

    def to_json(self) -> dict:
        """Return the data of ``preflight`` in report.json."""
        return {
            "data": {task: asdict(facts) for task, facts in self.data.items()},
            "labels": self.labels,
            "outputs": self.outputs,
            "scores": {name: [asdict(score) for score in scores] for name, scores in self.scores.items()},
            "lines": self.lines(),
        }


def preflight(config: Config[Experiment], parts: Parts, trainer: Trainer, begins: bool, resumes: bool) -> Preflight:
    """Collect the facts of a run, and score its teachers on rank 0.

    Args:
        config: the config of the run.
        parts: the parts of the run.
        trainer: gives the device of the teachers.
        begins: whether the run starts at step 0; then teachers are scored, and a bad one is refused.
        resumes: whether the run is resumed; then teachers are scored, but none is refused.

    Raises:
        ConfigError: if a teacher does worse than a constant prediction, and ``check`` is not off; or its outputs are
            not finite.
    """
    experiment, task = config.value, config.value.task
    scores: dict[str, list[BaselineScore]] = {}
    is_sharded = experiment.trainer.get("strategy") == "fsdp2"  # such a teacher may not fit on one device
    is_scored = (begins or resumes) and trainer.is_global_zero and not is_sharded
    for name, teacher in parts.teachers.items() if is_scored else ():
        teacher_task = task.parts[name] if experiment.has_teacher_per_task() else task
        rows = parts.rows["validation"].remove_columns("row")
        if experiment.has_teacher_per_task():
            rows = rows.select([i for i, kind in enumerate(task.row_groups(rows)) if kind == task.task_index(name)])
        collate = Collator(
            parts.tokenizer, getattr(teacher.model.config, "decoder_start_token_id", None), task.finalize_batch
        )
        key = experiment.teacher_key(name)
        with config.error_context(key):
            device = trainer.strategy.root_device
            scores[name] = score_against_baseline(teacher.model, teacher_task, rows, collate, device, teacher.read)
        if begins and experiment.teachers()[name].check:
            _refuse_worse(config, f"{key}.model", scores[name])
    if is_scored and experiment.teacher and experiment.teacher.has_recorded_outputs:
        scores["teacher"] = score_recorded(task, parts.rows)
        if begins and experiment.teacher.check:
            _refuse_worse(config, "teacher.columns" if task.soft_labels else "teacher", scores["teacher"])
    data = {name: part.facts for name, part in task.parts.items()}
    labels = {name: part.classes.labels() if part.classes else {} for name, part in task.parts.items()}
    # The output of a regression has no name.
    outputs = {name: pairs for name, pairs in parts.outputs.items() if any(pairs.values())}
    return Preflight(data, labels, outputs, scores, parts.notes)


def _refuse_worse(config: Config[Experiment], key: str, scores: list[BaselineScore]) -> None:
    for score in scores:
        if score.worse:
            message = f"it does worse than a constant prediction: {score.text()}"
            advice = "are its outputs matched with the right classes? check: false trains with it all the same"
            raise config.error(key, f"{message}; {advice}")


def _pairs(names: dict[str, str]) -> str:
    rest = f", and {len(names) - _MAX_CLASSES} more" if len(names) > _MAX_CLASSES else ""
    return ", ".join(f"{old} → {new}" for old, new in list(names.items())[:_MAX_CLASSES]) + rest


def _with_task(task: str, line: str) -> str:
    return f"{task}: {line}" if task else line
