"""What needs no model, to compare with: the score of a teacher on validation against a constant prediction, and the
metrics of a model that reads nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from distill.data.batches import Collator, sequential_batches
from distill.evaluation.measure import torch_predict
from distill.tasks.task import Task
from losses.loss import label_mask, prediction_mask

MOST_ROWS, MOST_TOKENS = 512, 32_768
"""Of validation, spread evenly over its lengths: enough to tell a teacher from chance, and seconds of work."""


@dataclass
class Score:
    """How a model does on validation, beside what needs no model.

    Args:
        task: of several tasks its name, else empty.
        metric: accuracy, pearson or perplexity.
        value: of the model.
        baseline: of the most frequent class, of a constant number, or of the frequencies of tokens.
        rows: on how many rows of validation.
        of_rows: how many there are.
        worse: whether the model is further below the baseline than chance explains (three standard errors).
    """

    task: str
    metric: str
    value: float
    baseline: float
    rows: int
    of_rows: int
    worse: bool

    @property
    def useless(self) -> bool:
        """Whether the model is not better than the baseline."""
        better = self.value < self.baseline if self.metric == "perplexity" else self.value > self.baseline
        return not better

    def text(self) -> str:
        """The score in words."""
        name = {"accuracy": "the most frequent class", "perplexity": "the frequencies of tokens"}
        rows = f"{self.rows}" if self.rows == self.of_rows else f"{self.rows} of {self.of_rows}"
        task = f"{self.task}: " if self.task else ""
        against = name.get(self.metric, "a constant number")
        return f"{task}{self.metric} {self.value:.4g} on {rows} validation rows, {against} {self.baseline:.4g}"


def scores(
    model: PreTrainedModel, task: Task, rows: Dataset, collate: Collator, device: torch.device | str = "cpu"
) -> list[Score]:
    """The score of a model, of several tasks one each; none where no constant prediction is known.

    Args:
        model: with the outputs of the task; stays where it was.
        task: of the rows.
        rows: of validation, in the order of their length.
        collate: makes a batch.
        device: to run on.

    Raises:
        ValueError: if an output is NaN or infinite.
    """
    before, kinds = next(model.parameters()).device, task.row_groups(rows)
    parts = list(task.parts.items())
    model.to(device)
    found = []
    for kind in sorted(set(kinds)):
        name, part = parts[kind]
        if not _has_baseline(part):
            continue
        numbers = [i for i, other in enumerate(kinds) if other == kind]
        sample = _spread(numbers, list(rows["length"]))
        chosen = rows.select(sample).remove_columns("length")
        size = min(task.batch_size, 8) if task.predicts_tokens else task.batch_size
        batches = DataLoader(chosen, batch_sampler=sequential_batches([0] * len(sample), size), collate_fn=collate)
        answers, labels = [], []
        predict = torch_predict(model)
        for batch in batches:
            batch = {key: value.to(device) for key, value in batch.items()}
            asked = prediction_mask(batch)
            labels.append(batch["labels"][asked].cpu())
            answer = task.select_logits(predict(batch), batch)[asked].float().cpu()
            if answer.isnan().any() or answer.isposinf().any():
                raise ValueError("model: it gives NaN or infinity for rows of validation")
            # Of a vocabulary the logits of all tokens would not fit into memory.
            answers.append(_losses(answer, labels[-1]) if part.predicts_tokens else answer)
        score = _score(part, torch.cat(answers), torch.cat(labels))
        if score:
            found.append(Score(name, *score[:3], len(sample), len(numbers), score[3]))
    model.to(before)
    return found


def naive_metrics(task: Task, batches: list[dict[str, Tensor]]) -> dict[str, float]:
    """Return the metrics, of those by which the task is judged, of a model that reads nothing.

    Of classes it is one that always answers the commonest label, of tokens one that knows how frequent each is; of
    numbers a constant, whose correlation counts as 0; and of places in a text and written texts none is right.
    """
    if len(task.parts) > 1:
        of_all = {}
        for name, part in task.parts.items():
            own = [batch for batch in batches if task.task_of(batch)[0] == name]
            of_all |= {f"{name}/{metric}": value for metric, value in naive_metrics(part, own).items()}
        return of_all
    outputs = len(task.classes.names) if task.classes else 0
    if task.predicts_tokens:
        outputs = len(task.tokenizer)
    if outputs < 2 or not batches or batches[0]["labels"].is_floating_point():
        return {task.main_metric: 0.0}
    counts = sum(torch.bincount(batch["labels"][label_mask(batch)], minlength=outputs) for batch in batches)
    logits, metrics = counts.clamp(min=1e-9).log(), task.metrics()
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False  # as in measure.evaluate_model: this process alone measures
    for batch in batches:
        task.update_metrics(metrics, logits.expand(*batch["labels"].shape, outputs), batch)
    main = metrics[task.main_metric]
    return {task.main_metric: float(main.compute()) if main.update_called else 0.0}


def _spread(numbers: list[int], lengths: list[int]) -> list[int]:
    """Some of the rows, spread evenly, of not too many tokens."""
    most = min(MOST_ROWS, max(1, MOST_TOKENS * len(numbers) // max(1, sum(lengths[i] for i in numbers))))
    step = max(1, math.ceil(len(numbers) / most))
    return numbers[::step]


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross entropy of each token, [N] of logits [N, V]."""
    return F.cross_entropy(logits, labels, reduction="none")


def _has_baseline(task: Task) -> bool:
    """Whether a constant prediction is one of the task's: not where a place in a text is sought."""
    return task.predicts_tokens or task.problem == "regression" or bool(task.classes)


def _score(task: Task, answers: Tensor, labels: Tensor) -> tuple[str, float, float, bool] | None:
    """Metric, value, baseline and whether the value is below it by more than chance, of N answers: logits [N, C], or
    the losses of tokens [N].
    """
    count = len(labels)
    if not count:
        return None
    if task.predicts_tokens:
        loss = float(answers.mean())
        shares = labels.bincount().double() / count
        shares = shares[shares > 0]
        return "perplexity", math.exp(min(loss, 700.0)), math.exp(float(-(shares * shares.log()).sum())), False
    if task.problem == "regression":
        r = float(torch.corrcoef(torch.stack([answers[:, 0], labels.float()]))[0, 1]) if count > 1 else 0.0
        r = r if math.isfinite(r) else 0.0
        return "pearson", r, 0.0, r < -3 / math.sqrt(count)
    accuracy = float((answers.argmax(-1) == labels).double().mean())
    majority = int(labels.bincount().max()) / count
    error = math.sqrt(majority * (1 - majority) / count)
    return "accuracy", accuracy, majority, accuracy < majority - 3 * error
