"""A cache on disk of the teacher's outputs on training rows: the teacher runs once for each row."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill.teachers.row_file import RowFile
from distill.teachers.teacher import FrozenTeacher
from students.recording.model_io import valid_positions
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_OUTPUTS = 1024
"""The maximum number of outputs per token that are cached; more are a vocabulary."""
FLOAT16_MAX = float(np.finfo(np.float16).max)
"""The largest hidden state that can be stored."""
FORMAT = 2
"""The version of the file format, part of the folder's name."""


class CachedTeacher:
    """A teacher whose logits and hidden states are cached, with the interface of the teacher.

    There is one file (``RowFile``) per signal. Each row has a checksum, seeded with a hash of the row's token ids and
    the signal's name: a row that is incomplete, damaged, swapped or of other tokens counts as missing. For missing rows
    the teacher runs, and its outputs are rounded like stored ones, so that a run gives the same numbers whether it
    writes or reads the cache. Rows with a value that is not finite are not stored. The folder is named by teacher, rows
    and format, so that ranks and runs share it. Logits are stored in float32, hidden states in float16, those of each
    token without padding. Attention is not stored, nor are the logits of a vocabulary (more than 1024 per token); when
    a loss needs these, the teacher runs.

    Args:
        teacher: runs for missing rows.
        rows: the teacher's token ids of all training rows in order, for a seq2seq task followed by the target's.
        folder: of all caches.
        precision: of the teacher's computation, part of the folder's name.
    """

    def __init__(self, teacher: FrozenTeacher, rows: list[list[int]], folder: Path, precision: str = "32-true"):
        self.teacher = teacher
        self.keys = np.array([hash_ids(np.array(ids)) for ids in rows], np.uint64)
        self.width = max(len(ids) for ids in rows)
        rows_hash = hashlib.blake2b(self.keys, digest_size=8).hexdigest()
        self.folder = folder / f"v{FORMAT}-{fingerprint(teacher.model)}-{rows_hash}-{precision}"
        self.read, self.ran, self.damaged, self.unfit = 0, 0, 0, 0
        """Numbers of rows: read, computed by the teacher, with a wrong checksum, and not storable."""
        self.failure = ""
        """The reason why the files cannot be used any more."""
        self._files: dict[str, RowFile] = {}

    def to(self, device: torch.device) -> None:
        """Move the teacher to a device."""
        self.teacher.to(device)

    def allocate(self, batch: dict[str, Tensor], trace: Trace) -> None:
        """Create the files of signals with space for all rows, so that a full disk is noticed before training.

        Args:
            batch: any rows.
            trace: the teacher's trace of the batch, with all signals that will be needed.

        Raises:
            OSError: if there is no space, or the folder cannot be written.
            ValueError: if a hidden state is too large for float16.
        """
        batch = self.teacher.read(batch)
        if trace.logits is not None and not is_cacheable(trace.logits):
            trace = replace(trace, logits=None)
        for name, values in self._rounded(trace, valid_positions(self.teacher.model.config, batch)).items():
            if not np.isfinite(to_storage(name, values)).all():
                reason = f"{name.replace('-', ' layer ')} has states beyond {FLOAT16_MAX:,.0f}"
                raise ValueError(f"cache: {reason}, the largest float16 number; write cache: false")
            self._open(name, values)

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """Return the signals of a batch, whose ``row`` [B] holds the row numbers.

        Raises:
            ValueError: if the tokens of a row differ from those that the cache was made for.
        """
        given, batch, rows = batch, self.teacher.read(batch), batch["row"].cpu().numpy()
        if signals.attention or signals.routing:
            self.ran += len(rows)
            return self.teacher.trace(given, signals)
        valid = valid_positions(self.teacher.model.config, batch)
        self._check(rows, batch)
        names = ["logits"] * signals.logits + [f"{stack}-{layer}" for stack, layer in sorted(signals.hidden)]
        values, missing = {}, np.zeros(len(rows), bool)
        for name in names:
            values[name], is_valid = self._read(name, rows)
            missing |= ~is_valid
            if missing.all():
                break
        if not missing.any():
            self.read += len(rows)
        else:
            self.ran += len(rows)
            trace = self.teacher.record(batch, signals)
            if trace.logits is not None and not is_cacheable(trace.logits):
                return trace
            computed = self._rounded(trace, valid)
            self._write(computed, rows, missing)
            for name, new in computed.items():
                values[name] = new if missing.all() else np.where(expand_rows(missing, new), new, values[name])

        def unpack(name: str, mask: Tensor) -> Tensor:
            tensor = torch.from_numpy(values[name]).to(mask.device).float()
            return tensor if tensor.ndim == 2 else unpack_rows(tensor, mask)

        hidden = {(stack, layer): unpack(f"{stack}-{layer}", valid[stack]) for stack, layer in signals.hidden}
        logits = unpack("logits", _output_mask(valid)) if signals.logits else None
        return self.teacher.align(Trace(logits, hidden, {}, valid), given)

    def note(self) -> str:
        """Return the numbers of computed and cached rows, for the report."""
        parts = [f"ran for {self.ran} rows, and was read from its cache for {self.read}"]
        if self.damaged:
            parts.append(f"{self.damaged} rows of the cache were damaged, and the teacher ran again for them")
        if self.unfit:
            reason = f"as it has numbers that are not finite or beyond {FLOAT16_MAX:,.0f}"
            parts.append(f"{self.unfit} times a row was not cached, {reason}")
        return "; ".join([*parts, *[self.failure] * bool(self.failure)])

    def _check(self, rows: np.ndarray, batch: dict[str, Tensor]) -> None:
        texts = [(batch["input_ids"], batch.get("attention_mask"))]
        if "decoder_attention_mask" in batch:
            texts.append((batch["labels"], batch["decoder_attention_mask"]))
        for i, row in enumerate(rows):
            tokens = [ids[i] if mask is None else ids[i][mask[i].bool()] for ids, mask in texts]
            if hash_ids(torch.cat(tokens).cpu().numpy()) != self.keys[row]:
                raise ValueError(f"teacher cache: the tokens of row {row} are not those it was made for")

    def _rounded(self, trace: Trace, valid: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Return the teacher's signals without padding, rounded like stored ones where float16 can hold them."""
        tensors = {}
        for (stack, layer), state in trace.hidden.items():
            state = pack(state, valid[stack], self.width).float()
            half = state.half().float()
            tensors[f"{stack}-{layer}"] = torch.where(half.isfinite(), half, state)
        if trace.logits is not None:
            logits, has_tokens = trace.logits, trace.logits.ndim == 3
            tensors["logits"] = (pack(logits, _output_mask(valid), self.width) if has_tokens else logits).float()
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

    def _read(self, name: str, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the stored values of rows, or None, and which rows are valid [B]."""
        try:
            file = None if self.failure else self._open(name)
            if file is not None:
                values, is_valid, damaged = file.read(rows, self._seeds(name, rows))
                self.damaged += int(damaged.sum())
                return values, is_valid
        except OSError as error:
            self._give_up(error)
        return None, np.zeros(len(rows), bool)

    def _write(self, computed: dict[str, np.ndarray], rows: np.ndarray, missing: np.ndarray) -> None:
        """Store the rows that were missing."""
        for name, values in computed.items():
            stored = to_storage(name, values)
            is_finite = np.isfinite(stored.reshape(len(stored), -1)).all(1)
            self.unfit += int((missing & ~is_finite).sum())
            new = missing & is_finite
            try:
                if new.any() and not self.failure:
                    self._open(name, values).write(rows[new], self._seeds(name, rows[new]), stored[new])
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Continue without the files: an error on one process alone would leave the others waiting."""
        self.failure = f"then the teacher ran without the cache: {self.folder.name}: {error.strerror}"

    def _seeds(self, name: str, rows: np.ndarray) -> np.ndarray:
        # the sum of unsigned integers wraps around
        return self.keys[rows] + np.uint64(hash_ids(np.frombuffer(name.encode(), np.uint8)))

    def _open(self, name: str, example: np.ndarray | None = None) -> RowFile | None:
        """Return the file of a signal; given ``example`` [B, ...], a missing or unsuitable file is created."""
        path = self.folder / name
        file = self._files.get(name) or (RowFile.open(path, len(self.keys)) if path.exists() else None)
        if example is not None and (file is None or file.shape != example.shape[1:]):
            self.folder.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            file = RowFile.create(path, len(self.keys), example.shape[1:], to_storage(name, example[:0]).dtype)
        if file is not None:
            self._files[name] = file
        return file


def is_cacheable(logits: Tensor) -> bool:
    """Return whether logits [B, C] or [B, S, C] are cached: those of a vocabulary are not."""
    return logits.ndim == 2 or logits.shape[-1] <= MAX_OUTPUTS


def to_storage(name: str, values: np.ndarray) -> np.ndarray:
    """Return the values of a signal in its storage type; values that are too large become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32 if name == "logits" else np.float16)


def expand_rows(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a row mask [B] with as many dimensions as values [B, ...]."""
    return rows.reshape(-1, *[1] * (values.ndim - 1))


def _output_mask(valid: dict[str, Tensor]) -> Tensor:
    """Return the positions that have outputs: those of the last stack."""
    return list(valid.values())[-1]


def pack(values: Tensor, mask: Tensor, width: int) -> Tensor:
    """Return the values [B, S, H] at the true positions of a mask [B, S], left-aligned: [B, width, H]."""
    packed = values.new_zeros(len(values), width, values.shape[-1])
    packed[mask.nonzero()[:, 0], mask.cumsum(1)[mask] - 1] = values[mask]
    return packed


def unpack_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Return packed values at the true positions of a mask, [B, S, H]; the inverse of ``pack``, zero elsewhere."""
    indices = (mask.cumsum(1) - 1).clamp(min=0)[..., None].expand(-1, -1, values.shape[-1])
    return torch.where(mask[..., None], values.gather(1, indices), 0.0)


def hash_ids(ids: np.ndarray) -> int:
    """Return a hash of token ids; never 0, which denotes a missing row."""
    return int.from_bytes(hashlib.blake2b(ids.astype(np.int64), digest_size=8).digest(), "little") or 1


def fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of a model's class, config and weights."""
    digest = hashlib.blake2b(digest_size=8)
    config = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}
    for key in ("transformers_version", "architectures"):  # saving a model sets them; its class is hashed anyway
        config.pop(key, None)
    digest.update(json.dumps([type(model).__name__, config], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
