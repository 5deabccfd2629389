"""Weights of few bits in a file of few bytes: codes side by side, and the numbers by which they become values."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from quant_aware.quantizers.activations import Activations, FakeQuantInput, InputMemo
from quant_aware.quantizers.grids import Quantizer
from students.saved_classes import find_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "student.packed.safetensors"
"""The name of such a file in the folder of a run."""


class OnGrid(NamedTuple):
    """How a weight was quantized: its grid, and the axis of its outputs."""

    grid: Quantizer
    axis: int


class Rounded(NamedTuple):
    """Linear layers, by name, whose inputs are rounded, and how."""

    kind: Activations
    layers: list[str]


def pack(codes: Tensor, width: int) -> Tensor:
    """Codes (any shape, 0 to ``2^width - 1``) one after the other, ``width`` bits each, as bytes, uint8."""
    planes = codes.flatten().to(torch.uint8).numpy()[:, None] >> np.arange(width, dtype=np.uint8)
    return torch.from_numpy(np.packbits(planes & 1, bitorder="little"))


def unpack(packed: Tensor, width: int, count: int) -> Tensor:
    """The ``count`` codes, long, that ``pack`` made these bytes of."""
    planes = np.unpackbits(packed.numpy(), count=count * width, bitorder="little").reshape(count, width)
    return torch.from_numpy((planes << np.arange(width, dtype=np.uint8)).sum(axis=1, dtype=np.int64))


def save_packed(
    tensors: dict[str, Tensor], quantized: dict[str, OnGrid], path: str | Path, inputs: Rounded | None = None
) -> None:
    """Writes weights that lie on their grids as codes, in a safetensors file, and all others as they are.

    Beside the codes of ``name`` lie ``name.fit`` and, where a grid has no 0 and the weight has, ``name.zeros``: a bit
    for each number, or, where that is shorter, the places of the zeros. Which grids they are is in the metadata.

    Args:
        tensors: all that is to be saved, by name, on the CPU.
        quantized: which of them lie on a grid.
        path: of the file.
        inputs: of which layers they are rounded.

    Raises:
        ValueError: if a weight does not lie on its grid, so that another would be read.
    """
    found, said = {}, {}
    for name, tensor in tensors.items():
        if name not in quantized:
            found[name] = tensor.contiguous()
            continue
        grid, axis = quantized[name]
        groups = grid.divide(tensor, axis)
        codes, qparams = grid.store(groups)
        if not torch.allclose(torch.where(groups == 0, 0.0, grid.decode(codes, qparams)), groups, rtol=1e-5, atol=1e-8):
            raise ValueError(f"{name} does not lie on its grid, {grid}: the file would hold another")
        found[name] = pack(codes, grid.width)
        found[f"{name}.fit"] = qparams.contiguous()
        if not grid.has_zero and (groups == 0).any():
            places = (groups == 0).flatten().nonzero().flatten().int()
            bits = pack(groups == 0, 1)
            found[f"{name}.zeros"] = places if places.nbytes < bits.nbytes else bits
        said[name] = {"kind": type(grid).__name__, "axis": axis, "shape": list(tensor.shape)} | _settings(grid)
        if _is_from_outside(type(grid)):
            said[name]["module"] = _module(type(grid))
    rounded = inputs and vars(inputs.kind) | {"layers": inputs.layers}
    save_file(found, path, metadata={"grids": json.dumps(said), "inputs": json.dumps(rounded)})


def load_packed(path: str | Path) -> dict[str, Tensor]:
    """Return all tensors of such a file, the quantized ones with the values that they were trained with, float32.

    Raises:
        ValueError: if the class of a quantizer is not known, naming the module to import first.
    """
    saved, said = load_file(path), _said(path, "grids")
    found = {name: tensor for name, tensor in saved.items() if name.rsplit(".", 1)[0] not in said and name not in said}
    for name, given in said.items():
        kind, axis, shape = (given.pop(key) for key in ("kind", "axis", "shape"))
        grid = _quantizer(path, kind, given.pop("module", None), given)
        like = torch.empty(shape)
        groups = grid.divide(like, axis)
        count = grid.codes_of(groups)
        values = grid.decode(unpack(saved[name], grid.width, prod(count)).view(count), saved[f"{name}.fit"])
        if f"{name}.zeros" in saved:
            values.view(-1)[_places(saved[f"{name}.zeros"], groups.numel())] = 0.0
        found[name] = grid.join(values, like, axis)
    return found


def _quantizer(path: str | Path, kind: str, module: str | None, settings: dict[str, Any]) -> Quantizer:
    """Make the quantizer of a weight, whose class must have been imported."""
    quantizer = find_class(Quantizer, kind)
    if quantizer is None:
        where = f"import {module}, which defines it" if module else "import the module that defines it"
        raise ValueError(f"{path}: there is no quantizer {kind}; {where} (the run's `imports`), before loading")
    try:
        return quantizer(**settings)
    except TypeError as error:
        raise ValueError(f"{path}: {kind} is not the quantizer that the file was written with: {error}") from None


def _settings(grid: Quantizer) -> dict[str, Any]:
    return {field.name: getattr(grid, field.name) for field in fields(grid) if field.init}


def _is_from_outside(cls: type) -> bool:
    return cls.__module__.partition(".")[0] != __name__.partition(".")[0]


def _module(cls: type) -> str:
    """What is to be imported for a class: its module, or the file that was run as one for ``imports``."""
    file = Path(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
    is_plain = file.stem in (cls.__module__.rpartition(".")[2], "__init__", "")
    return cls.__module__ if is_plain else file.name


def _places(zeros: Tensor, count: int) -> Tensor:
    return zeros.long() if zeros.dtype == torch.int32 else unpack(zeros, 1, count).nonzero().flatten()


def load(run: str | Path, head: type | None = None) -> PreTrainedModel:
    """The student of a run from its ``student.packed.safetensors``, with the numerics that it was trained with.

    Args:
        run: the run's folder, with the config in ``student``.
        head: the Auto class of transformers that knows the model's head; ``AutoModel`` if not given.

    Raises:
        ValueError: if the file does not hold that model; or if it was written with a quantizer of a module from outside
            (``imports``) that this process has not imported, naming the module.
    """
    from transformers import AutoConfig, AutoModel  # not above: a config is read without transformers

    path = Path(run) / FILE
    config = AutoConfig.from_pretrained(Path(run) / "student", trust_remote_code=False)
    model = (head or AutoModel).from_config(config, dtype=torch.float32)
    missing, unexpected = model.load_state_dict(load_packed(path), strict=False)
    model.tie_weights()
    # Of what has several names, tied or shared, these are the first, under which it was saved.
    missing = [name for name, _ in model.named_parameters() if name in missing]
    if unexpected or missing:
        raise ValueError(f"{path} does not hold a {type(model).__name__}: {', '.join([*unexpected, *missing])}")
    if inputs := _said(path, "inputs"):
        layers = inputs.pop("layers")
        hook = FakeQuantInput(InputMemo(Activations(**inputs)))
        hook.enabled = True
        for name in layers:
            model.get_submodule(name).register_forward_pre_hook(hook)
    return model.eval()


def _said(path: str | Path, key: str) -> Any:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[key])
