"""What the files of a model hold: the precision of its numbers, read from their headers alone."""

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
    """Of most of its numbers, by torch's name: ``bfloat16``."""
    bytes_per_weight: float
    """Of a number, on average."""


def stored_precision(source: str) -> StoredPrecision:
    """How a folder or a hub name, whose files are here, holds a model; of an adapter, its base.

    A model without safetensors is taken to be what its config says.
    """
    source = base_model_name(source) or source
    size, count, kinds = 0, 0, Counter()
    for file in _files(source):
        for tensor in _header(file).values():
            begin, end = tensor["data_offsets"]
            entries = math.prod(tensor["shape"])
            size, count = size + end - begin, count + entries
            kinds[tensor["dtype"]] += entries
    if count:
        most = kinds.most_common(1)[0][0]
        return StoredPrecision(_NAMES.get(most, most.lower()), size / count)
    said = load_config(source).dtype
    return StoredPrecision(str(said).removeprefix("torch."), said.itemsize) if said else StoredPrecision("float32", 4)


def _files(source: str) -> list[Path]:
    from huggingface_hub import try_to_load_from_cache  # not above: it brings httpx

    folder = Path(source)
    if not folder.is_dir():
        found = [try_to_load_from_cache(source, name) for name in _FILES]
        folder = next((Path(path).parent for path in found if isinstance(path, str)), None)
    return [] if folder is None else sorted(folder.glob("model*.safetensors"))


def _header(file: Path) -> dict[str, dict]:
    """Of a safetensors file: by the name of a tensor, its dtype, shape and where its bytes lie."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    return header
