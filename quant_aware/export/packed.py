"""Packed files: quantized weights as codes of a few bits, side by side, and the qparams that decode them."""

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

from quant_aware.quantizers.activations import ActivationQuantizer, FakeQuantInput, InputCache
from quant_aware.quantizers.quantizer import Quantizer
from students.saved_classes import find_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from students.loading.auto_class import AutoClass

FILE = "student.packed.safetensors"
"""The name of such a file in the folder of a run."""


class QuantizedWeight(NamedTuple):
    """The quantizer of a weight, and its output axis."""

    quantizer: Quantizer
    axis: int


class QuantizedInputs(NamedTuple):
    """The names of the linear layers whose inputs are quantized, and the quantizer."""

    quantizer: ActivationQuantizer
    layers: list[str]


def pack(codes: Tensor, bits: int) -> Tensor:
    """Return codes (any shape, 0 to ``2^bits - 1``) as bytes, uint8, ``bits`` of them for each code."""
    planes = codes.flatten().to(torch.uint8).numpy()[:, None] >> np.arange(bits, dtype=np.uint8)
    return torch.from_numpy(np.packbits(planes & 1, bitorder="little"))


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the ``count`` codes, long, of bytes made by ``pack``."""
    planes = np.unpackbits(packed.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    return torch.from_numpy((planes << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.int64))


def save_packed(
    tensors: dict[str, Tensor],
    quantized: dict[str, QuantizedWeight],
    path: str | Path,
    inputs: QuantizedInputs | None = None,
) -> None:
    """Write quantized weights as codes, and all others as they are, to a safetensors file.

    Beside the codes of ``name`` the file has ``name.qparams`` and, where a quantizer has no 0 and the weight has,
    ``name.zeros``: a bit for each entry, or, where that is shorter, the indices of the zeros. The metadata has the
    settings of the quantizers.

    Args:
        tensors: all tensors to save, by name, on the CPU.
        quantized: the quantized ones among them.
        path: of the file.
        inputs: the layers whose inputs are quantized.

    Raises:
        ValueError: if the values of a weight are not those of its quantizer.
    """
    saved, settings = {}, {}
    for name, tensor in tensors.items():
        if name not in quantized:
            saved[name] = tensor.contiguous()
            continue
        quantizer, axis = quantized[name]
        groups = quantizer.to_groups(tensor, axis)
        codes, qparams = quantizer.recover_codes(groups)
        decoded = torch.where(groups == 0, 0.0, quantizer.decode(codes, qparams))
        if not torch.allclose(decoded, groups, rtol=1e-5, atol=1e-8):
            raise ValueError(f"{name} is not quantized by {quantizer}: the file would hold other values")
        saved[name] = pack(codes, quantizer.code_bits)
        saved[f"{name}.qparams"] = qparams.contiguous()
        if not quantizer.has_zero and (groups == 0).any():
            indices = (groups == 0).flatten().nonzero().flatten().int()
            bits = pack(groups == 0, 1)
            saved[f"{name}.zeros"] = indices if indices.nbytes < bits.nbytes else bits
        settings[name] = {"kind": type(quantizer).__name__, "axis": axis, "shape": list(tensor.shape)}
        settings[name] |= {field.name: getattr(quantizer, field.name) for field in fields(quantizer) if field.init}
        if _is_external(type(quantizer)):
            settings[name]["module"] = _module_name(type(quantizer))
    activations = inputs and vars(inputs.quantizer) | {"layers": inputs.layers}
    save_file(saved, path, metadata={"quantizers": json.dumps(settings), "activations": json.dumps(activations)})


def load_packed(path: str | Path) -> dict[str, Tensor]:
    """Return all tensors of a packed file, the quantized ones decoded to the values of training, float32.

    Raises:
        ValueError: if the class of a quantizer is not known, naming the module to import first.
    """
    saved, quantizers = load_file(path), _metadata(path, "quantizers")
    tensors = {
        name: tensor
        for name, tensor in saved.items()
        if name not in quantizers and name.rsplit(".", 1)[0] not in quantizers
    }
    for name, settings in quantizers.items():
        kind, axis, shape = (settings.pop(key) for key in ("kind", "axis", "shape"))
        quantizer = _make_quantizer(path, kind, settings.pop("module", None), settings)
        like = torch.empty(shape)
        groups = quantizer.to_groups(like, axis)
        codes_shape = quantizer.codes_shape(groups)
        codes = unpack(saved[name], quantizer.code_bits, prod(codes_shape)).view(codes_shape)
        values = quantizer.decode(codes, saved[f"{name}.qparams"])
        if f"{name}.zeros" in saved:
            values.view(-1)[_zero_indices(saved[f"{name}.zeros"], groups.numel())] = 0.0
        tensors[name] = quantizer.from_groups(values, like, axis)
    return tensors


def _make_quantizer(path: str | Path, kind: str, module: str | None, settings: dict[str, Any]) -> Quantizer:
    """Return the quantizer of a weight; its class must have been imported."""
    cls = find_class(Quantizer, kind)
    if cls is None:
        advice = f"import {module}, which defines it" if module else "import the module that defines it"
        raise ValueError(f"{path}: there is no quantizer {kind}; {advice} (the run's `imports`), before loading")
    try:
        return cls(**settings)
    except TypeError as error:
        raise ValueError(f"{path}: {kind} is not the quantizer that the file was written with: {error}") from None


def _is_external(cls: type) -> bool:
    return cls.__module__.partition(".")[0] != __name__.partition(".")[0]


def _module_name(cls: type) -> str:
    """Return the module to import for a class, or the file name if ``imports`` named a file."""
    file = Path(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
    is_module = file.stem in (cls.__module__.rpartition(".")[2], "__init__", "")
    return cls.__module__ if is_module else file.name


def _zero_indices(zeros: Tensor, count: int) -> Tensor:
    return zeros.long() if zeros.dtype == torch.int32 else unpack(zeros, 1, count).nonzero().flatten()


def load(run: str | Path, head: AutoClass | None = None) -> PreTrainedModel:
    """Return the student of a run from its ``student.packed.safetensors``, with the numerics of training.

    Args:
        run: the run's folder, with the config in ``student``, or a deployed folder with both.
        head: the Auto class of transformers for the model's head; ``AutoModel`` if not given.

    Raises:
        ValueError: if the file does not hold that model; or if it was written with a quantizer of a module from outside
            (``imports``) that this process has not imported, naming the module.
    """
    from transformers import AutoConfig, AutoModel  # not above: a config is read without transformers

    path = Path(run) / FILE
    student = Path(run) / "student"
    config = AutoConfig.from_pretrained(student if student.is_dir() else run, trust_remote_code=False)
    model = (head or AutoModel).from_config(config, dtype=torch.float32)
    missing, unexpected = model.load_state_dict(load_packed(path), strict=False)
    model.tie_weights()
    # Tied and shared parameters are saved under the first of their names.
    missing = [name for name, _ in model.named_parameters() if name in missing]
    if unexpected or missing:
        raise ValueError(f"{path} does not hold a {type(model).__name__}: {', '.join([*unexpected, *missing])}")
    if activations := _metadata(path, "activations"):
        layers = activations.pop("layers")
        hook = FakeQuantInput(InputCache(ActivationQuantizer(**activations)))
        hook.enabled = True
        for name in layers:
            model.get_submodule(name).register_forward_pre_hook(hook)
    return model.eval()


def _metadata(path: str | Path, key: str) -> Any:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[key])
