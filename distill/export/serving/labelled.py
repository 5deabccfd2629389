"""Evaluate a deployed student on labelled rows that were not part of its run."""

from __future__ import annotations

from dataclasses import dataclass

from torch.utils.data import DataLoader

from distill.data.batches import Collator, sequential_batches
from distill.data.checks import setup_and_check
from distill.data.files import read_splits
from distill.data.rows import encode, redraw_rows
from distill.evaluation.measure import EvalResult, evaluate_model
from distill.export.serving.predictor import Predictor


@dataclass
class LabelledResult:
    """The metrics of a student on labelled rows.

    Args:
        path: of the rows.
        rows: their number.
        result: metrics and predictions.
    """

    path: str
    rows: int
    result: EvalResult


def evaluate_file(predictor: Predictor, data: str, batch_size: int = 32) -> LabelledResult:
    """Return the metrics of a student on a labelled file, folder or data set.

    Args:
        predictor: the student; labels of the data are joined with its outputs as in its run.
        data: a file, all rows of which count; of a folder or data set the validation split counts, if there is one.
        batch_size: the number of rows that are computed together.

    Raises:
        ValueError: naming file and line, if a row cannot be used.
    """
    task, splits = predictor.task, read_splits(data)
    split = splits.get("validation", splits["train"])
    setup_and_check(task, {"train": split}, task.tokenizer)
    if task.classes and predictor.names:
        task.classes.follow(predictor.names)
    task.validation = task.mark_documents(split.rows)
    rows = redraw_rows(task, encode(task, task.validation))
    rows = rows.add_column("row", list(range(len(rows))))
    groups = sequential_batches(task.row_groups(rows), batch_size)
    collate = Collator(task.tokenizer, predictor.collate.decoder_start, task.finalize_batch)
    batches = list(DataLoader(rows, batch_sampler=groups, collate_fn=collate))
    return LabelledResult(split.facts.path, len(rows), evaluate_model(task, predictor.predict, batches, resample=True))
