"""A check that an int8 file holds the weights that were quantized in training as int8, and no others."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from quant_aware.export.onnx_int8 import Weights
from quant_aware.quantizers.fake_quant import quantize_weight


def int8_mismatches(path: str | Path, weights: Weights) -> list[str]:
    """Return a message for each tensor of a file that is not as it was trained.

    Weights are identified by their rows of values, one row for each output: the exporter renames, transposes, stacks
    and reorders them, and leaves out those that the sample batch did not use.

    Args:
        path: a file written by ``quantize_onnx``.
        weights: the folded weights that were quantized in training, by name, and their output axis.
    """
    tensors = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    constants = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    floats = [values for name, values in constants.items() if tensors[name].data_type == TensorProto.FLOAT]
    int8 = {name: values for name, values in constants.items() if tensors[name].data_type == TensorProto.INT8}
    float_rows = {row for values in floats for layout in _layouts(values) for row in _rows(layout)}
    trained_rows: set[bytes] = set()
    messages = []
    for name, (values, axis) in weights.items():
        outputs = values.detach().cpu().float().movedim(axis, 0)
        if not outputs.any():  # empty and zero weights cannot be identified
            continue
        rows = [row for row in _rows(outputs.numpy()) if any(row)]
        if outputs.shape[1] > 1 and all(row in float_rows for row in rows):
            messages.append(f"{name} is float32 in the file, but was quantized to 8 bits in training")
        trained_rows.update(_rows(quantize_weight(outputs)[0].numpy()))
    for name, codes in int8.items():
        is_trained = (all(row in trained_rows for row in _rows(layout)) for layout in _layouts(codes))
        if codes.ndim > 1 and codes.any() and not any(is_trained):
            messages.append(f"{name} is int8 in the file, but its values are not those of training")
    return messages


def _layouts(values: np.ndarray) -> list[np.ndarray]:
    """Return an array and, if it has two dimensions or more, the array with the last two transposed."""
    return [values] if values.ndim < 2 else [values, np.swapaxes(values, -1, -2)]


def _rows(values: np.ndarray) -> list[bytes]:
    """Return the values along the last axis of an array as bytes, with -0 as 0."""
    if not values.size or not values.ndim:
        return []
    rows = np.ascontiguousarray(values.reshape(-1, values.shape[-1])) + values.dtype.type(0)
    return [row.tobytes() for row in rows]
