"""What the teacher says of the training rows, on disk: it runs once for each row, and is read from then on."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from distill.teacher import FrozenTeacher
from students.signals import Signals, Trace
from students.trace import valid_positions

MOST_OUTPUTS = 1024
"""For each token; more of them are a vocabulary."""


class CachedTeacher:
    """A teacher whose logits and hidden states are kept; it looks like the teacher.

    One memory-mapped array of fixed width per signal, and one of keys: the key of a row is the hash of its token ids,
    written after its values, so that a row is either whole or missing, whenever the writer is killed. What is read has
    been written first, also in the first epoch: a run gives the same numbers whether it writes or reads. The folder
    is named by teacher and rows, so ranks and runs share it. Logits are kept in float32, hidden states in float16.
    What there is of each token is kept without padding. Attention is not kept, nor are the logits of a vocabulary
    (more than 1024 for each token): where a loss looks at them, the teacher runs.

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
        self.folder = folder / f"{fingerprint(teacher.model)}-{of_rows}-{precision}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.read, self.ran = 0, 0
        """How many rows were read, and for how many the teacher ran."""
        self._arrays: dict[str, tuple[np.memmap, np.memmap]] = {}

    def to(self, device: torch.device) -> None:
        """Moves the teacher."""
        self.teacher.to(device)

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """The signals of one batch, whose ``row`` [B] says which rows it holds.

        Raises:
            ValueError: if a row does not hold the tokens that were there when the cache was made, or a state is too
                large for float16.
        """
        rows, config = batch["row"].cpu().numpy(), self.teacher.model.config
        if signals.attention:
            self.ran += len(rows)
            return self.teacher.trace(batch, signals)
        valid = valid_positions(config, batch)
        self._check(rows, batch)
        names = ["logits"] * signals.logits + [f"{stack}-{layer}" for stack, layer in sorted(signals.hidden)]
        arrays = {name: self._open(name) for name in names}
        if all(found is not None and (found[1][rows] == self.keys[rows]).all() for found in arrays.values()):
            self.read += len(rows)
        else:
            self.ran += len(rows)
            trace = self.teacher.trace(batch, signals)
            if trace.logits is not None and trace.logits.ndim == 3 and trace.logits.shape[-1] > MOST_OUTPUTS:
                return trace
            arrays = self._write(trace, rows, valid)

        def kept(name: str, mask: Tensor) -> Tensor:
            values = torch.from_numpy(arrays[name][0][rows]).to(mask.device).float()
            return values if values.ndim == 2 else unpacked(values, mask)

        hidden = {(stack, layer): kept(f"{stack}-{layer}", valid[stack]) for stack, layer in signals.hidden}
        return Trace(kept("logits", _spoken(valid)) if signals.logits else None, hidden, {}, valid)

    def note(self) -> str:
        """What the cache was worth, for the report."""
        return f"ran for {self.ran} rows, and was read from its cache for {self.read}"

    def _check(self, rows: np.ndarray, batch: dict[str, Tensor]) -> None:
        texts = [(batch["input_ids"], batch.get("attention_mask"))]
        if "decoder_attention_mask" in batch:
            texts.append((batch["labels"], batch["decoder_attention_mask"]))
        for at, row in enumerate(rows):
            tokens = [ids[at] if mask is None else ids[at][mask[at].bool()] for ids, mask in texts]
            if key(torch.cat(tokens).cpu().numpy()) != self.keys[row]:
                raise ValueError(f"teacher cache: row {row} does not hold the tokens it was made for")

    def _write(self, trace: Trace, rows: np.ndarray, valid: dict[str, Tensor]) -> dict[str, tuple]:
        """Keeps what the teacher said; values first, keys after them."""
        found = {}
        for (stack, layer), state in trace.hidden.items():
            state = packed(state, valid[stack], self.width)
            found[f"{stack}-{layer}"] = half = state.half()
            if (half.isinf() & state.isfinite()).any():
                most = f"{torch.finfo(half.dtype).max:,.0f}"
                where = f"layer {layer} of the {stack} has states beyond {most}, the most that the cache can hold"
                raise ValueError(f"teacher.cache: {where}; write cache: false")
        if trace.logits is not None:
            whole = trace.logits.ndim == 2
            found["logits"] = (trace.logits if whole else packed(trace.logits, _spoken(valid), self.width)).float()
        arrays = {}
        for name, tensor in found.items():
            values = tensor.cpu().numpy()
            arrays[name] = self._open(name) or self._make(name, values)
            arrays[name][0][rows] = values
            arrays[name][1][rows] = self.keys[rows]
        return arrays

    def _open(self, name: str) -> tuple[np.memmap, np.memmap] | None:
        path = self.folder / name
        if name not in self._arrays and path.is_dir():
            self._arrays[name] = tuple(np.load(path / f"{part}.npy", mmap_mode="r+") for part in ("values", "keys"))
        return self._arrays.get(name)

    def _make(self, name: str, like: np.ndarray) -> tuple[np.memmap, np.memmap]:
        """Empty arrays; of several processes the first to be ready gives its own to all."""
        draft = self.folder / f".{name}-{secrets.token_hex(4)}"
        draft.mkdir()
        shape = (len(self.keys), *like.shape[1:])
        np.lib.format.open_memmap(draft / "values.npy", "w+", like.dtype, shape)
        np.lib.format.open_memmap(draft / "keys.npy", "w+", np.uint64, shape[:1])
        try:
            os.rename(draft, self.folder / name)
        except OSError:
            if not (self.folder / name).is_dir():
                raise
        return self._open(name)


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
