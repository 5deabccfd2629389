"""Recurrent layers in ONNX: standard operators in the place of ours, and the LSTM of 8 bits of ONNX Runtime.

An LSTM computes with 8 bits: ``DynamicQuantizeLSTM`` rounds its inputs, all at once, and its states, those of one step
at once, as ``DynamicQuantizeLinear`` does. There is no such operator for other cells, nor for an LSTM with a
projection: their weights are 8 bits in the file and become float32 when it is opened, and nothing else is rounded.
"""

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from quant_aware.export.onnx_graph import OWN, replace_nodes, use_own_operators
from quant_aware.quantizers.activations import Activations
from quant_aware.quantizers.fake_quant import quantize_weight
from students.models.recurrent_layer import ONNX_DOMAIN

_ORDER = {"rnn": [0], "gru": [1, 0, 2], "lstm": [0, 3, 1, 2]}
"""By cell, which of torch's gates stands where in ONNX."""


def standardize(model: ModelProto) -> None:
    """Put the operators of ONNX in the place of the recurrent ones of ``students``, in place."""
    graph, nodes = model.graph, []
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.domain == ONNX_DOMAIN:
            held = [numpy_helper.to_array(weights[name]) for name in node.input[2:]]
            nodes += _standard(graph, node, held)
        else:
            nodes.append(node)
    if len(nodes) == len(graph.node):
        return
    replace_nodes(graph, nodes)
    kept = [each for each in model.opset_import if each.domain != ONNX_DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _standard(graph: GraphProto, node: NodeProto, held: list[np.ndarray]) -> list[NodeProto]:
    """The nodes that do what one of ours does; their weights, [directions, outputs, inputs], become initializers."""
    (states, lengths), output, order = node.input[:2], node.output[0], _ORDER[node.op_type]
    directions = next(a.i for a in node.attribute if a.name == "directions")
    each = len(held) // directions
    found = [np.stack(held[i::each]) for i in range(each)]  # inputs, states, both biases, projection
    inputs, recurrent, *biases = (_gates(weight, order) for weight in found[:4])
    named = {"W": inputs, "R": recurrent, "B": np.concatenate(biases, 1)} | dict(zip("P", found[4:], strict=False))
    for name, weight in named.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight), f"{output}.{name}"))
    width = found[1].shape[-1] if each == 4 else found[4].shape[-1]
    attributes = {"hidden_size": width, "direction": "bidirectional" if directions == 2 else "forward"}
    if node.op_type == "gru":
        attributes["linear_before_reset"] = 1
    read, made, moved = f"{output}.read", f"{output}.made", f"{output}.moved"
    before, after, state = [], [], f"{output}.R"
    if each == 5:
        # What is projected and read again is read by the product of both matrices, which is made once.
        state, projected = f"{output}.RP", f"{output}.projected"
        before = [helper.make_node("MatMul", [f"{output}.R", f"{output}.P"], [state])]
        after = [
            helper.make_node("Transpose", [f"{output}.P"], [f"{output}.PT"], perm=[0, 2, 1]),
            helper.make_node("MatMul", [made, f"{output}.PT"], [projected]),
        ]
    shape = numpy_helper.from_array(np.array([0, 0, -1]), f"{output}.shape")
    graph.initializer.append(shape)
    given = [read, f"{output}.W", state, f"{output}.B", lengths]
    return [
        *before,
        helper.make_node("Transpose", [states], [read], perm=[1, 0, 2]),
        helper.make_node(node.op_type.upper(), given, [made], name=output, **attributes),
        *after,
        helper.make_node("Transpose", [after[-1].output[0] if after else made], [moved], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", [moved, shape.name], [output]),
    ]


def _gates(weight: np.ndarray, order: list[int]) -> np.ndarray:
    """The rows of [directions, outputs, ...] with the gates in another order."""
    gates = np.split(weight, len(order), axis=1)
    return np.concatenate([gates[i] for i in order], axis=1)


def quantize_recurrent(model: ModelProto, inputs: Activations) -> None:
    """Bring the weights of recurrent layers to 8 bits, one scale for each output, in place.

    Args:
        model: with standard operators.
        inputs: how inputs are rounded; those of an LSTM are only where it is all at once.
    """
    graph, nodes = model.graph, []
    weights = {tensor.name: tensor for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("LSTM", "GRU", "RNN")]
    for node in layers:
        named = {key: weights[f"{node.name}.{key}"] for key in "WRP" if f"{node.name}.{key}" in weights}
        found = {key: _on_grid(numpy_helper.to_array(tensor)) for key, tensor in named.items()}
        if node.op_type == "LSTM" and "P" not in found and inputs.per == "tensor":
            _make_dynamic(graph, node, found)
        else:
            for key, (codes, scale) in found.items():
                nodes += _opened(graph, f"{node.name}.{key}", codes, scale)
    if layers:
        replace_nodes(graph, [*nodes, *graph.node])
        use_own_operators(model)


def _on_grid(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes, int8, of weights [directions, outputs, inputs], and their scales [directions, outputs, 1]."""
    rows = torch.from_numpy(weight.reshape(-1, weight.shape[-1]).copy())
    codes, scale = quantize_weight(rows)
    return codes.numpy().reshape(weight.shape), scale.numpy().reshape(*weight.shape[:2], 1)


def _make_dynamic(graph: GraphProto, node: NodeProto, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    node.op_type, node.domain = "DynamicQuantizeLSTM", OWN
    node.input.extend(["", "", ""])  # states to begin with, memory to begin with, peepholes
    for place, (key, (codes, scale)) in enumerate(found.items(), start=1):
        name = f"{node.name}.{key}"
        codes, scale = np.ascontiguousarray(codes.transpose(0, 2, 1)), scale.squeeze(-1)
        tensors = {f"{name}_codes": codes, f"{name}_scale": scale, f"{name}_zero": np.zeros_like(scale, dtype=np.int8)}
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in tensors.items())
        node.input[place] = f"{name}_codes"
        node.input.extend([f"{name}_scale", f"{name}_zero"])


def _opened(graph: GraphProto, name: str, codes: np.ndarray, scale: np.ndarray) -> list[NodeProto]:
    """The nodes that make a weight of its codes; ONNX Runtime runs them once, as all that depends on no input."""
    graph.initializer.append(numpy_helper.from_array(codes, f"{name}_codes"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    old = next(tensor for tensor in graph.initializer if tensor.name == name)
    graph.initializer.remove(old)
    return [
        helper.make_node("Cast", [f"{name}_codes"], [f"{name}_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name]),
    ]
