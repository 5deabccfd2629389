"""The precision in which a model is stored, read from the headers of its files."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from students.loading.adapters import base_model_name, load_config

_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_FILES = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class StoredPrecision:
    """The precision in which a model is stored."""

    precision: str
    """The dtype of most of its weights, by torch's name: ``bfloat16``."""
    bytes_per_weight: float
    """The average over all weights."""


def stored_precision(source: str) -> StoredPrecision:
    """Return the precision of a model in a folder or, by hub name, in the local cache; for an adapter, of its base.

    Without safetensors files it is the dtype of the config.
    """
    source = base_model_name(source) or source
    size, count, dtypes = 0, 0, Counter()
    for file in _files(source):
        for tensor in _header(file).values():
            begin, end = tensor["data_offsets"]
            entries = math.prod(tensor["shape"])
            size, count = size + end - begin, count + entries
            dtypes[tensor["dtype"]] += entries
    if count:
        dtype = dtypes.most_common(1)[0][0]
        return StoredPrecision(_NAMES.get(dtype, dtype.lower()), size / count)
    dtype = load_config(source).dtype
    return (
        StoredPrecision(str(dtype).removeprefix("torch."), dtype.itemsize) if dtype else StoredPrecision("float32", 4)
    )


def _files(source: str) -> list[Path]:
    from huggingface_hub import try_to_load_from_cache  # not above: it brings httpx

    folder = Path(source)
    if not folder.is_dir():
        paths = [try_to_load_from_cache(source, name) for name in _FILES]
        folder = next((Path(path).parent for path in paths if isinstance(path, str)), None)
    return [] if folder is None else sorted(folder.glob("model*.safetensors"))


def _header(file: Path) -> dict[str, dict]:
    """Return from a safetensors file the dtype, shape and byte offsets of each tensor, by name."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    return header
