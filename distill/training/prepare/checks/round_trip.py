"""Save, load and compare a student before the first step, as built and as pruned by the end.

A student that cannot be saved or loaded is found before the first step, not after the last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from distill.evaluation.measure import torch_predict
from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.fixed_mask import FixedMask
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.pruner import Pruner
from prune_schedules.structure.cut import cut
from students.loading.adapters import NO_REMOTE_CODE, load_tokenizer
from students.tokenizer.vocabulary import Vocabulary, cut_vocabulary
from students.weights import fold

ROWS = 4
"""The number of rows to compare."""
TOLERANCE = 1e-4
"""The largest difference of logits relative to the largest logit: the effect of float32's order of sums."""


def round_trip(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: dict[str, Tensor], head: type | None = None
) -> None:
    """Save a student with its tokenizer in a temporary folder, load both, and compare the logits of one batch.

    The folder is in ``$TMPDIR`` and is removed. The student is not changed.

    Args:
        student: a student with plain weights.
        tokenizer: the tokenizer that will be saved with it.
        batch: a training batch; its first rows are used.
        head: the Auto class of transformers to load it with; None for the student's own class.

    Raises:
        ValueError: if it cannot be saved or loaded, or its logits change.
    """
    batch = take_first_rows(batch)
    expected = _attempt("run on a batch of training", lambda: logits_of(student, batch))
    if not expected.isfinite().all():
        raise ValueError("before the first step its outputs are not finite: its weights or the batch hold no numbers")
    with _quiet(), torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="round-trip-") as folder:
        _attempt("saved", lambda: (student.save_pretrained(folder), tokenizer.save_pretrained(folder)))
        load = (head or type(student)).from_pretrained
        arguments = {
            "dtype": student.dtype,
            "output_loading_info": True,
            "ignore_mismatched_sizes": True,
        } | NO_REMOTE_CODE
        loaded, info = _attempt("loaded again", lambda: load(folder, **arguments))
        loaded_tokenizer = _attempt("loaded again with its tokenizer", lambda: load_tokenizer(folder))
        size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    lost = sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})
    if lost or info["unexpected_keys"]:
        names = ", ".join(map(str, (lost or sorted(info["unexpected_keys"]))[:3]))
        what = "it lacks, and would start at random," if lost else "there is no place for"
        raise ValueError(f"saved and loaded again, {what} {names}")
    if size == 0:
        raise ValueError("saved, it has no file of weights")
    if loaded_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise ValueError("its tokenizer, saved and loaded again, has other tokens")
    if (loaded.config.id2label, loaded.config.num_labels) != (student.config.id2label, student.config.num_labels):
        raise ValueError(f"saved and loaded again, its classes are {', '.join(loaded.config.id2label.values())}")
    loaded.to(student.device)
    compare(expected, logits_of(loaded, batch), "saved and loaded again")


def compare(expected: Tensor, logits: Tensor, state: str, tolerance: float = TOLERANCE) -> None:
    """Raise ValueError, naming the ``state`` of the student, if logits differ by more than float32 rounding."""
    if logits.shape != expected.shape:
        raise ValueError(f"{state}, it gives {list(logits.shape)} numbers for a batch, not {list(expected.shape)}")
    difference, largest = float((logits - expected).abs().max()), max(1.0, float(expected.abs().max()))
    if not difference <= tolerance * largest:
        raise ValueError(f"{state}, it is another model: logits differ by up to {difference:.3g}, of {largest:.3g}")


def take_first_rows(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the first rows of a batch."""
    count = len(batch["input_ids"])
    return {name: value[:ROWS] if value.dim() and len(value) == count else value for name, value in batch.items()}


def logits_of(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return the logits of a batch in eval mode; the mode of the model is restored."""
    mode = model.training
    logits = torch_predict(model)({name: value.to(model.device) for name, value in batch.items()})
    model.train(mode)
    return logits


class ReachableSparsity(NamedTuple):
    """The sparsity that a pruner is to reach.

    Args:
        target: the sparsity of the config.
        reachable: the sparsity that whole units allow.
        units: the number of units of a block, or of all blocks, that compete.
    """

    target: float
    reachable: float
    units: int


def prune_fully(
    student: PreTrainedModel, pruners: dict[str, Pruner], timeline: Timeline
) -> tuple[PreTrainedModel, dict[str, ReachableSparsity]]:
    """Return a copy of the student with the final sparsity, and the reachable sparsity of each pruner.

    Units are chosen by magnitude, whatever the score of the pruner is.
    """
    model, sparsities = deepcopy(student), {}
    for name, pruner in pruners.items():
        if isinstance(pruner, FixedMask):
            FixedMask(where=pruner.where).attach(model)
            continue
        target = pruner.sparsity.value(timeline.total_steps, timeline)
        masks = Magnitude(sparsity=Constant(target), shape=pruner.shape, where=pruner.where, scope=pruner.scope)
        masks.attach(model)
        masks.update(0, timeline)
        counts = [target.count_masked()[1] for target in masks.targets]
        units = sum(counts) if masks.scope == "global" else max(counts)
        sparsities[name] = ReachableSparsity(target, masks.current_sparsity(), units)
    return model, sparsities


def cut_fully(
    model: PreTrainedModel, batch: dict[str, Tensor], vocabulary: Vocabulary | None = None
) -> dict[str, Tensor]:
    """Fold and cut a masked model in place, as at the end of a run, and compare its logits.

    Returns:
        The batch in the tokens of the cut vocabulary.

    Raises:
        ValueError: if its logits change.
    """
    batch = take_first_rows(batch)
    expected = logits_of(model, batch)
    fold(model)
    cut(model)
    compare(expected, logits_of(model, batch), "cut to the units that pruning leaves", tolerance=10 * TOLERANCE)
    if not vocabulary:
        return batch
    cut_vocabulary(model, vocabulary.keep)
    new_ids = torch.zeros(vocabulary.num_before, dtype=torch.long)
    new_ids[vocabulary.keep] = torch.arange(len(vocabulary.keep))
    return batch | {"input_ids": new_ids[batch["input_ids"]]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars and log messages of transformers inside the block."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _attempt(action: str, function: Callable[[], object]) -> object:
    """Return the result of a function; turn any error into a ValueError of one line."""
    try:
        return function()
    except OSError as error:
        if error.errno is None:
            raise ValueError(f"it cannot be {action}: {_line(error)}") from error
        folder = tempfile.gettempdir()
        raise ValueError(
            f"it cannot be {action} in {folder}: {error.strerror}; set TMPDIR to another folder"
        ) from error
    except Exception as error:  # transformers would raise it at the end of the run as well
        raise ValueError(f"it cannot be {action}: {_line(error)}") from error


def _line(error: Exception) -> str:
    words = " ".join(str(error).split())[:300]
    return words if isinstance(error, ValueError | OSError) and words else f"{type(error).__name__}: {words}"
