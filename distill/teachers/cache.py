"""What the teacher says of the training rows, on disk: it runs once for each row, and is read from then on."""

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

MOST_OUTPUTS = 1024
"""For each token; more of them are a vocabulary."""
LARGEST = float(np.finfo(np.float16).max)
"""The largest hidden state that can be kept."""
FORMAT = 2
"""Of the files; part of the folder's name, so that none is read as another."""


class CachedTeacher:
    """A teacher whose logits and hidden states are kept; it looks like the teacher.

    One file of rows (``RowFile``) per signal. Each row has a checksum, seeded with the hash of the row's token ids and
    of the signal's name: what is killed half-way, damaged, exchanged or of other tokens is a missing row. For missing
    rows the teacher runs, and what it gives is rounded as the cache rounds: a run gives the same numbers whether it
    writes or reads. Rows with a number that is not finite are never kept. The folder is named by teacher, rows and
    format, so ranks and runs share it. Logits are kept in float32, hidden states in float16, each token's without
    padding. Attention is not kept, nor are the logits of a vocabulary (more than 1024 for each token): where a loss
    looks at them, the teacher runs.

    Args:
        teacher: runs for rows that are missing.
        rows: the token ids of all training rows, in their order; of a decoder with a text of its own those after them.
        folder: of all caches.
        precision: in which the teacher runs; other numbers go to another folder.
    """

    def __init__(self, teacher: FrozenTeacher, rows: list[list[int]], folder: Path, precision: str = "32-true"):
        self.teacher = teacher
        self.keys = np.array([key(np.array(ids)) for ids in rows], np.uint64)
        self.width = max(len(ids) for ids in rows)
        of_rows = hashlib.blake2b(self.keys, digest_size=8).hexdigest()
        self.folder = folder / f"v{FORMAT}-{fingerprint(teacher.model)}-{of_rows}-{precision}"
        self.read, self.ran, self.damaged, self.unfit = 0, 0, 0, 0
        """How many rows were read, for how many the teacher ran, how many did not match their checksum, and how many
        could not be kept.
        """
        self.failure = ""
        """Why the files cannot be used any more."""
        self._files: dict[str, RowFile] = {}

    def to(self, device: torch.device) -> None:
        """Moves the teacher."""
        self.teacher.to(device)

    def reserve(self, batch: dict[str, Tensor], trace: Trace) -> None:
        """Makes the files for signals, with room for all rows, so that a full disk shows before training.

        Args:
            batch: any rows.
            trace: all that will be asked, as the teacher gives it for them.

        Raises:
            OSError: if there is no room, or the folder cannot be written.
            ValueError: if a state is too large for float16, as every row's may be then.
        """
        if trace.logits is not None and not keeps(trace.logits):
            trace = replace(trace, logits=None)
        for name, values in self._rounded(trace, valid_positions(self.teacher.model.config, batch)).items():
            if not np.isfinite(as_stored(name, values)).all():
                where = f"{name.replace('-', ' layer ')} has states beyond {LARGEST:,.0f}"
                raise ValueError(f"cache: {where}, the most that the cache can hold; write cache: false")
            self._open(name, values)

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """The signals of one batch, whose ``row`` [B] says which rows it holds.

        Raises:
            ValueError: if a row does not hold the tokens that were there when the cache was made.
        """
        rows, config = batch["row"].cpu().numpy(), self.teacher.model.config
        if signals.attention:
            self.ran += len(rows)
            return self.teacher.trace(batch, signals)
        valid = valid_positions(config, batch)
        self._check(rows, batch)
        names = ["logits"] * signals.logits + [f"{stack}-{layer}" for stack, layer in sorted(signals.hidden)]
        values, missing = {}, np.zeros(len(rows), bool)
        for name in names:
            values[name], whole = self._read(name, rows)
            missing |= ~whole
            if missing.all():
                break
        if not missing.any():
            self.read += len(rows)
        else:
            self.ran += len(rows)
            trace = self.teacher.trace(batch, signals)
            if trace.logits is not None and not keeps(trace.logits):
                return trace
            computed = self._rounded(trace, valid)
            self._write(computed, rows, missing)
            for name, fresh in computed.items():
                values[name] = fresh if missing.all() else np.where(along(missing, fresh), fresh, values[name])

        def unpack(name: str, mask: Tensor) -> Tensor:
            tensor = torch.from_numpy(values[name]).to(mask.device).float()
            return tensor if tensor.ndim == 2 else unpacked(tensor, mask)

        hidden = {(stack, layer): unpack(f"{stack}-{layer}", valid[stack]) for stack, layer in signals.hidden}
        return Trace(unpack("logits", _spoken(valid)) if signals.logits else None, hidden, {}, valid)

    def note(self) -> str:
        """What the cache was worth, for the report."""
        parts = [f"ran for {self.ran} rows, and was read from its cache for {self.read}"]
        if self.damaged:
            parts.append(f"{self.damaged} rows of the cache were damaged, and the teacher ran again for them")
        if self.unfit:
            why = f"with numbers that are not finite or beyond {LARGEST:,.0f}"
            parts.append(f"{self.unfit} times a row was not kept, {why}")
        return "; ".join([*parts, *[self.failure] * bool(self.failure)])

    def _check(self, rows: np.ndarray, batch: dict[str, Tensor]) -> None:
        texts = [(batch["input_ids"], batch.get("attention_mask"))]
        if "decoder_attention_mask" in batch:
            texts.append((batch["labels"], batch["decoder_attention_mask"]))
        for at, row in enumerate(rows):
            tokens = [ids[at] if mask is None else ids[at][mask[at].bool()] for ids, mask in texts]
            if key(torch.cat(tokens).cpu().numpy()) != self.keys[row]:
                raise ValueError(f"teacher cache: row {row} does not hold the tokens it was made for")

    def _rounded(self, trace: Trace, valid: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """What the teacher gave, rounded as on disk and without padding; what does not fit float16 stays whole."""
        tensors = {}
        for (stack, layer), state in trace.hidden.items():
            state = packed(state, valid[stack], self.width).float()
            half = state.half().float()
            tensors[f"{stack}-{layer}"] = torch.where(half.isfinite(), half, state)
        if trace.logits is not None:
            whole = trace.logits.ndim == 2
            tensors["logits"] = (trace.logits if whole else packed(trace.logits, _spoken(valid), self.width)).float()
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

    def _read(self, name: str, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """The values of rows, and which of them are there."""
        try:
            file = None if self.failure else self._open(name)
            if file is not None:
                values, whole, damaged = file.read(rows, self._seeds(name, rows))
                self.damaged += int(damaged.sum())
                return values, whole
        except OSError as error:
            self._give_up(error)
        return None, np.zeros(len(rows), bool)

    def _write(self, computed: dict[str, np.ndarray], rows: np.ndarray, missing: np.ndarray) -> None:
        """Keeps the rows that were missing."""
        for name, values in computed.items():
            stored = as_stored(name, values)
            fit = np.isfinite(stored.reshape(len(stored), -1)).all(1)
            self.unfit += int((missing & ~fit).sum())
            new = missing & fit
            try:
                if new.any() and not self.failure:
                    self._open(name, values).write(rows[new], self._seeds(name, rows[new]), stored[new])
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """The run goes on without the files: an error on one process alone would leave the others waiting."""
        self.failure = f"then the teacher ran alone: {self.folder.name}: {error.strerror}"

    def _seeds(self, name: str, rows: np.ndarray) -> np.ndarray:
        # wraps around, as unsigned numbers do
        return self.keys[rows] + np.uint64(key(np.frombuffer(name.encode(), np.uint8)))

    def _open(self, name: str, like: np.ndarray | None = None) -> RowFile | None:
        """The file of a signal; with ``like`` [B, ...] it is made if there is none, or a damaged one."""
        path = self.folder / name
        file = self._files.get(name) or (RowFile.open(path, len(self.keys)) if path.exists() else None)
        if like is not None and (file is None or file.shape != like.shape[1:]):
            self.folder.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            file = RowFile.create(path, len(self.keys), like.shape[1:], as_stored(name, like[:0]).dtype)
        if file is not None:
            self._files[name] = file
        return file


def keeps(logits: Tensor) -> bool:
    """Whether logits [B, C] or [B, S, C] are kept: not those of a vocabulary."""
    return logits.ndim == 2 or logits.shape[-1] <= MOST_OUTPUTS


def as_stored(name: str, values: np.ndarray) -> np.ndarray:
    """The values of a signal in the type they have on disk; too large ones are infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32 if name == "logits" else np.float16)


def along(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows [B] in as many dimensions as values [B, ...]."""
    return rows.reshape(-1, *[1] * (values.ndim - 1))


def _spoken(valid: dict[str, Tensor]) -> Tensor:
    """The positions at which a head speaks: those of the last stack."""
    return list(valid.values())[-1]


def packed(values: Tensor, mask: Tensor, width: int) -> Tensor:
    """What stands at the positions of a mask [B, S], one after the other from the left: [B, width, H] of [B, S, H]."""
    found = values.new_zeros(len(values), width, values.shape[-1])
    found[mask.nonzero()[:, 0], mask.cumsum(1)[mask] - 1] = values[mask]
    return found


def unpacked(values: Tensor, mask: Tensor) -> Tensor:
    """The reverse of ``packed``, [B, S, H]; zeros where the mask is false."""
    places = (mask.cumsum(1) - 1).clamp(min=0)[..., None].expand(-1, -1, values.shape[-1])
    return torch.where(mask[..., None], values.gather(1, places), 0.0)


def key(ids: np.ndarray) -> int:
    """A hash of token ids that is not 0, which stands for a row that is missing."""
    return int.from_bytes(hashlib.blake2b(ids.astype(np.int64), digest_size=8).digest(), "little") or 1


def fingerprint(model: PreTrainedModel) -> str:
    """A hash of a model's class, configuration and weights."""
    found = hashlib.blake2b(digest_size=8)
    config = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}
    config.pop("transformers_version", None)
    found.update(json.dumps([type(model).__name__, config], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
