"""A student saved, loaded again as others would, and compared; as it is, and as pruning will leave it.

What cannot be saved or loaded shows before the first step, not after the last.
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
from prune_schedules.scores.keep import Keep
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.pruner import Pruner
from prune_schedules.structure.cut import cut
from students.loading.adapters import NO_REMOTE_CODE, load_tokenizer
from students.tokenizer.vocabulary import Vocabulary, cut_vocabulary
from students.weights import fold

ROWS = 4
"""Of a batch so many are compared."""
TOLERANCE = 1e-4
"""How far logits may be apart, as a share of the largest: the order of sums in float32, and no more."""


def round_trip(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: dict[str, Tensor], head: type | None = None
) -> None:
    """Save a student with its tokenizer in a temporary folder, load both, and compare the logits of one batch.

    The folder is in ``$TMPDIR`` and is removed. The student stays as it is, its mode too.

    Args:
        student: with plain weights.
        tokenizer: that will be saved with it.
        batch: of training; its first rows are read.
        head: the Auto class of transformers with which others would load it; the student's own class if not given.

    Raises:
        ValueError: if it cannot be saved or loaded, or is another model then.
    """
    batch = first_rows(batch)
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
        again = _attempt("loaded again with its tokenizer", lambda: load_tokenizer(folder))
        size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    lost = sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})
    if lost or info["unexpected_keys"]:
        names = ", ".join(map(str, (lost or sorted(info["unexpected_keys"]))[:3]))
        what = "it lacks, and would start at random," if lost else "there is no place for"
        raise ValueError(f"saved and loaded again, {what} {names}")
    if size == 0:
        raise ValueError("saved, it has no file of weights")
    if again.get_vocab() != tokenizer.get_vocab():
        raise ValueError("its tokenizer, saved and loaded again, has other tokens")
    if (loaded.config.id2label, loaded.config.num_labels) != (student.config.id2label, student.config.num_labels):
        raise ValueError(f"saved and loaded again, its classes are {', '.join(loaded.config.id2label.values())}")
    loaded.to(student.device)
    compare(expected, logits_of(loaded, batch), "saved and loaded again")


def compare(expected: Tensor, logits: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Raise ValueError if logits are further apart than float32 makes them."""
    if logits.shape != expected.shape:
        raise ValueError(f"{what}, it gives {list(logits.shape)} numbers for a batch, not {list(expected.shape)}")
    apart, largest = float((logits - expected).abs().max()), max(1.0, float(expected.abs().max()))
    if not apart <= tolerance * largest:
        raise ValueError(f"{what}, it is another model: logits are up to {apart:.3g} apart, of {largest:.3g}")


def first_rows(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first rows of a batch."""
    count = len(batch["input_ids"])
    return {name: value[:ROWS] if value.dim() and len(value) == count else value for name, value in batch.items()}


def logits_of(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """The logits of a batch, in evaluation; the model is left in its mode."""
    mode = model.training
    found = torch_predict(model)({name: value.to(model.device) for name, value in batch.items()})
    model.train(mode)
    return found


class Share(NamedTuple):
    """What a pruner is to remove of its units, what it can, and how many units of one block (or all) compete."""

    wanted: float
    reached: float
    among: int


def pruned_to_the_end(
    student: PreTrainedModel, pruners: dict[str, Pruner], timeline: Timeline
) -> tuple[PreTrainedModel, dict[str, Share]]:
    """A copy under as many masks as the pruners' last step will have, by magnitude, whatever their scores are; and by
    the name of each pruner its shares.
    """
    model, shares = deepcopy(student), {}
    for name, pruner in pruners.items():
        if isinstance(pruner, Keep):
            Keep(where=pruner.where).attach(model)
            continue
        wanted = pruner.sparsity.value(timeline.total_steps, timeline)
        masks = Magnitude(sparsity=Constant(wanted), shape=pruner.shape, where=pruner.where, scope=pruner.scope)
        masks.attach(model)
        masks.update(0, timeline)
        counts = [part.masked()[1] for part in masks.parts]
        shares[name] = Share(wanted, masks.sparsity_now(), sum(counts) if masks.scope == "global" else max(counts))
    return model, shares


def cut_to_the_end(
    model: PreTrainedModel, batch: dict[str, Tensor], vocabulary: Vocabulary | None = None
) -> dict[str, Tensor]:
    """Fold and cut a model that is under masks, in place, as a run does at its end, and compare its logits.

    Returns:
        The batch as the model reads it now, whose vocabulary may be another.

    Raises:
        ValueError: if it is another model then.
    """
    batch = first_rows(batch)
    expected = logits_of(model, batch)
    fold(model)
    cut(model)
    compare(expected, logits_of(model, batch), "cut to what pruning leaves", tolerance=10 * TOLERANCE)
    if not vocabulary:
        return batch
    cut_vocabulary(model, vocabulary.keep)
    new = torch.zeros(vocabulary.num_before, dtype=torch.long)
    new[vocabulary.keep] = torch.arange(len(vocabulary.keep))
    return batch | {"input_ids": new[batch["input_ids"]]}


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no tables of transformers: what they would tell is told in one line."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _attempt(what: str, do: Callable[[], object]) -> object:
    """What a function returns; whatever it raises is one line."""
    try:
        return do()
    except OSError as error:
        if error.errno is None:
            raise ValueError(f"it cannot be {what}: {_line(error)}") from error
        where = tempfile.gettempdir()
        raise ValueError(f"it cannot be {what} in {where}: {error.strerror}; set TMPDIR to another folder") from error
    except Exception as error:  # whatever transformers raises, it would raise it at the end as well
        raise ValueError(f"it cannot be {what}: {_line(error)}") from error


def _line(error: Exception) -> str:
    words = " ".join(str(error).split())[:300]
    return words if isinstance(error, ValueError | OSError) and words else f"{type(error).__name__}: {words}"
