"""Whether an int8 file holds the weights that were rounded in training as int8, and no others."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from quant_aware.export.onnx_int8 import Weights
from quant_aware.quantizers.fake_quant import quantize_weight


def departures(path: str | Path, weights: Weights) -> list[str]:
    """What of a file is not as it was trained, each in a sentence.

    Weights are known by their rows of numbers, one row for each output: the exporter renames, turns, stacks and
    orders them, and has no need of those that the sample batch did not ask for.

    Args:
        path: of a file that ``quantize_onnx`` wrote.
        weights: the folded weights that were rounded in training, by name, and the axis of their outputs.
    """
    held = {each.name: each for each in onnx.load(path).graph.initializer}
    constants = {name: numpy_helper.to_array(each) for name, each in held.items()}
    floats = [values for name, values in constants.items() if held[name].data_type == TensorProto.FLOAT]
    int8 = {name: values for name, values in constants.items() if held[name].data_type == TensorProto.INT8}
    there = {row for values in floats for form in _forms(values) for row in _rows(form)}
    trained: set[bytes] = set()
    found = []
    for name, (values, axis) in weights.items():
        outputs = values.detach().cpu().float().movedim(axis, 0)
        if not outputs.any():  # of nothing, and of zeros, there is no telling
            continue
        rows = [row for row in _rows(outputs.numpy()) if any(row)]
        if outputs.shape[1] > 1 and all(row in there for row in rows):
            found.append(f"{name} is float32 in the file, and was rounded to 8 bits in training")
        trained.update(_rows(quantize_weight(outputs)[0].numpy()))
    for name, codes in int8.items():
        known = (all(row in trained for row in _rows(form)) for form in _forms(codes))
        if codes.ndim > 1 and codes.any() and not any(known):
            found.append(f"{name} has 8 bits in the file, and other numbers than in training")
    return found


def _forms(values: np.ndarray) -> list[np.ndarray]:
    """An array as it is and, of two dimensions or more, with the last two turned around."""
    return [values] if values.ndim < 2 else [values, np.swapaxes(values, -1, -2)]


def _rows(values: np.ndarray) -> list[bytes]:
    """The numbers along the last axis of an array, -0 being 0."""
    if not values.size or not values.ndim:
        return []
    rows = np.ascontiguousarray(values.reshape(-1, values.shape[-1])) + values.dtype.type(0)
    return [row.tobytes() for row in rows]
