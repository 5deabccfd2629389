"""The baseline of a task: a constant prediction, which reads no input.

``score_against_baseline`` compares a model with it before training, on a sample of rows, and tells a teacher that does
worse than chance from a bad one. ``baseline_metrics`` gives its metrics on all rows, in those of the task, to compare
with the report's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetDict
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from distill.data.batches import Collator, sequential_batches
from distill.evaluation.measure import evaluate_model, torch_predict
from distill.tasks.soft_labels import KEY
from distill.tasks.task import Task
from distill.teachers.recorded import recorded_values
from losses.loss import label_mask, prediction_mask
from students.recording.batch import Batch

MAX_ROWS, MAX_TOKENS = 512, 32_768
"""The largest sample of validation rows: enough to tell a teacher from chance, and seconds of work."""


@dataclass
class BaselineScore:
    """The score of a model on validation rows, beside that of a constant prediction.

    Args:
        task: the name of the task in a multi-task run, else empty.
        metric: accuracy, mAP, pearson or perplexity.
        value: the score of the model.
        baseline: the score of the most frequent class, of a constant number, or of the frequencies of tokens or labels.
        rows: the number of rows in the sample.
        of_rows: the number of validation rows.
        worse: whether the model is more than three standard errors below the baseline.
        split: of the rows, ``validation`` or ``training``.
    """

    task: str
    metric: str
    value: float
    baseline: float
    rows: int
    of_rows: int
    worse: bool
    split: str = "validation"

    @property
    def useless(self) -> bool:
        """Return whether the model is not better than the baseline."""
        better = self.value < self.baseline if self.metric == "perplexity" else self.value > self.baseline
        return not better

    def text(self) -> str:
        """Return the score as a sentence."""
        baselines = {
            "accuracy": "the most frequent class",
            "perplexity": "the frequencies of tokens",
            "mAP": "any order of rows",
        }
        rows = f"{self.rows}" if self.rows == self.of_rows else f"{self.rows} of {self.of_rows}"
        task = f"{self.task}: " if self.task else ""
        baseline = baselines.get(self.metric, "a constant number")
        return f"{task}{self.metric} {self.value:.4g} on {rows} {self.split} rows, {baseline} {self.baseline:.4g}"


def score_against_baseline(
    model: PreTrainedModel,
    task: Task,
    rows: Dataset,
    collate: Collator,
    device: torch.device | str = "cpu",
    read: Callable[[Batch], Batch] = lambda batch: batch,
) -> list[BaselineScore]:
    """Return the score of a model on each task that has a constant prediction.

    Args:
        model: a model with the outputs of the task; it is moved to ``device`` and back.
        task: a task or several.
        rows: validation rows with their ``length``.
        collate: makes a batch.
        device: the device to run on.
        read: returns a batch with the inputs of the model, and labels at its tokens.

    Raises:
        ValueError: if an output is NaN or infinite.
    """
    old_device, kinds = next(model.parameters()).device, task.row_groups(rows)
    parts = list(task.parts.items())
    model.to(device)
    scores = []
    for kind in sorted(set(kinds)):
        name, part = parts[kind]
        if not _has_baseline(part):
            continue
        numbers = [i for i, row_kind in enumerate(kinds) if row_kind == kind]
        sample = _sample_rows(numbers, list(rows["length"]))
        chosen = rows.select(sample).remove_columns("length")
        size = min(task.batch_size, 8) if task.predicts_tokens else task.batch_size
        batches = DataLoader(chosen, batch_sampler=sequential_batches([0] * len(sample), size), collate_fn=collate)
        predictions, labels = [], []
        predict = torch_predict(model)
        for batch in batches:
            batch = read({key: value.to(device) for key, value in batch.items()})
            mask = prediction_mask(batch)
            labels.append(batch["labels"][mask].cpu())
            logits = task.compute_logits(predict, batch)[mask].float().cpu()
            if logits.isnan().any() or logits.isposinf().any():
                raise ValueError("model: it gives NaN or infinity for rows of validation")
            # Logits over a vocabulary would not fit into memory for all tokens.
            predictions.append(_token_losses(logits, labels[-1]) if part.predicts_tokens else logits)
        score = _score(part, torch.cat(predictions), torch.cat(labels))
        if score:
            scores.append(BaselineScore(name, *score[:3], len(sample), len(numbers), score[3]))
    model.to(old_device)
    return scores


def score_recorded(task: Task, rows: DatasetDict) -> list[BaselineScore]:
    """Return the score of a teacher whose outputs are recorded, on validation rows, or without any on training rows.

    Args:
        task: a single task.
        rows: of each split.
    """
    for split, name in (("validation", "validation"), ("train", "training")):
        if KEY not in rows[split].column_names:
            continue
        logits, labels = (recorded_values(task, rows[split], key) for key in (KEY, "labels"))
        scored = ~logits.isnan().any(-1) & label_mask({"labels": labels})
        if score := _score(task, logits[scored], labels[scored]):
            return [BaselineScore("", *score[:3], int(scored.sum()), len(scored), score[3], name)]
    return []


def baseline_metrics(task: Task, batches: list[dict[str, Tensor]]) -> dict[str, float]:
    """Return the main metric of the constant prediction on all batches, of several tasks that of each.

    For classes it is the most frequent label; for tokens, and for rows with several labels, their frequencies; for
    numbers, a constant, whose correlation counts as 0. For passages of queries it is the mean of all their orders. For
    answer spans and generated texts it is never right: 0.
    """
    if len(task.parts) > 1:
        metrics = {}
        for name, part in task.parts.items():
            part_batches = [batch for batch in batches if task.task_of(batch)[0] == name]
            metrics |= {f"{name}/{metric}": value for metric, value in baseline_metrics(part, part_batches).items()}
        return metrics
    if task.is_multi_label:
        frequencies = torch.cat([batch["labels"] for batch in batches]).double().mean(0)
        logits = frequencies.clamp(1e-6, 1 - 1e-6).logit().float()
        result = evaluate_model(task, lambda batch: logits.expand(len(batch["labels"]), -1), batches)
        return {task.main_metric: result.metrics[task.main_metric]}
    if task.groups_passages:
        from distill.tasks.metrics.retrieval import RankingMetric  # not above: torchmetrics takes seconds

        metric = task.metrics()[task.main_metric]
        assert isinstance(metric, RankingMetric)
        return {task.main_metric: metric.of_any_order([batch["labels"] for batch in batches])}
    outputs = len(task.classes.names) if task.classes else 0
    if task.predicts_tokens:
        outputs = len(task.tokenizer)
    if outputs < 2 or not batches or batches[0]["labels"].is_floating_point():
        return {task.main_metric: 0.0}
    counts = sum(torch.bincount(batch["labels"][label_mask(batch)], minlength=outputs) for batch in batches)
    logits, metrics = counts.clamp(min=1e-9).log(), task.metrics()
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False  # only this process evaluates, as in evaluate_model
    for batch in batches:
        task.update_metrics(metrics, logits.expand(*batch["labels"].shape, outputs), batch)
    main = metrics[task.main_metric]
    return {task.main_metric: float(main.compute()) if main.update_called else 0.0}


def _sample_rows(numbers: list[int], lengths: list[int]) -> list[int]:
    """Return evenly spaced rows with at most ``MAX_TOKENS`` tokens."""
    size = min(MAX_ROWS, max(1, MAX_TOKENS * len(numbers) // max(1, sum(lengths[i] for i in numbers))))
    step = max(1, math.ceil(len(numbers) / size))
    return numbers[::step]


def _token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy [tokens] of logits [tokens, vocabulary]."""
    return F.cross_entropy(logits, labels, reduction="none")


def _has_baseline(task: Task) -> bool:
    """Return whether a task has a constant prediction; extractive question answering has none."""
    return task.predicts_tokens or task.problem == "regression" or bool(task.classes)


def _score(task: Task, predictions: Tensor, labels: Tensor) -> tuple[str, float, float, bool] | None:
    """Return metric, value, baseline, and whether the value is significantly below the baseline.

    Args:
        task: gives the metric.
        predictions: logits [N, C], or the losses of tokens [N].
        labels: classes, numbers or tokens, [N]; where a row may have several, of one row after the other.
    """
    count = len(labels)
    if not count:
        return None
    if task.is_multi_label:
        from distill.tasks.metrics.label_scores import average_precision  # not above: torchmetrics takes seconds

        scores, labels = (x.reshape(-1, len(task.classes.names), *x.shape[1:]) for x in (predictions, labels))
        precision = average_precision(scores[..., 1] - scores[..., 0], labels)
        return "mAP", float(precision.nanmean()), float(labels.double().mean(0)[~precision.isnan()].mean()), False
    if task.predicts_tokens:
        loss = float(predictions.mean())
        frequencies = labels.bincount().double() / count
        frequencies = frequencies[frequencies > 0]
        entropy = float(-(frequencies * frequencies.log()).sum())
        return "perplexity", math.exp(min(loss, 700.0)), math.exp(entropy), False
    if task.problem == "regression":
        r = float(torch.corrcoef(torch.stack([predictions[:, 0], labels.float()]))[0, 1]) if count > 1 else 0.0
        r = r if math.isfinite(r) else 0.0
        return "pearson", r, 0.0, r < -3 / math.sqrt(count)
    accuracy = float((predictions.argmax(-1) == labels).double().mean())
    majority = int(labels.bincount().max()) / count
    error = math.sqrt(majority * (1 - majority) / count)
    return "accuracy", accuracy, majority, accuracy < majority - 3 * error
