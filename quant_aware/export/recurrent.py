"""Recurrent layers in ONNX: standard operators instead of ours, and ONNX Runtime's int8 LSTM.

An LSTM computes with 8 bits: ``DynamicQuantizeLSTM`` quantizes its inputs per tensor, and its states per step, as
``DynamicQuantizeLinear`` does. There is no such operator for other cells, nor for an LSTM with a projection: their
weights are int8 in the file and become float32 when it is opened, and nothing else is quantized.
"""

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from quant_aware.export.onnx_graph import ORT_DOMAIN, import_ort_domain, replace_nodes
from quant_aware.quantizers.activations import ActivationQuantizer
from quant_aware.quantizers.fake_quant import quantize_weight
from students.models.recurrent_layer import ONNX_DOMAIN

_GATE_ORDER = {"rnn": [0], "gru": [1, 0, 2], "lstm": [0, 3, 1, 2]}
"""By cell, the indices of torch's gates in the order of ONNX."""


def use_standard_operators(model: ModelProto) -> None:
    """Replace the recurrent operators of ``students`` by standard ones, in place."""
    graph, nodes = model.graph, []
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.domain == ONNX_DOMAIN:
            weights = [numpy_helper.to_array(tensors[name]) for name in node.input[2:]]
            nodes += _standard_nodes(graph, node, weights)
        else:
            nodes.append(node)
    if len(nodes) == len(graph.node):
        return
    replace_nodes(graph, nodes)
    opsets = [opset for opset in model.opset_import if opset.domain != ONNX_DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(opsets)


def _standard_nodes(graph: GraphProto, node: NodeProto, weights: list[np.ndarray]) -> list[NodeProto]:
    """Return the nodes that replace one of ours, whose weights become initializers [directions, outputs, inputs].

    Args:
        graph: to which the initializers are added.
        node: with hidden states and lengths as inputs.
        weights: by direction input and state weights, both biases and, if there is one, the projection.
    """
    (states, lengths), output, gate_order = node.input[:2], node.output[0], _GATE_ORDER[node.op_type]
    directions = next(a.i for a in node.attribute if a.name == "directions")
    count = len(weights) // directions
    stacked = [np.stack(weights[i::count]) for i in range(count)]
    w, r, *biases = (_reorder_gates(weight, gate_order) for weight in stacked[:4])
    tensors = {"W": w, "R": r, "B": np.concatenate(biases, 1)} | dict(zip("P", stacked[4:], strict=False))
    for name, weight in tensors.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight), f"{output}.{name}"))
    hidden_size = stacked[1].shape[-1] if count == 4 else stacked[4].shape[-1]
    attributes = {"hidden_size": hidden_size, "direction": "bidirectional" if directions == 2 else "forward"}
    if node.op_type == "gru":
        attributes["linear_before_reset"] = 1
    inputs, result, transposed = f"{output}.inputs", f"{output}.result", f"{output}.transposed"
    before, after, recurrence = [], [], f"{output}.R"
    if count == 5:
        # ONNX has no projection: the cell reads its state through the product of both matrices, which is made once.
        recurrence, projected = f"{output}.RP", f"{output}.projected"
        before = [helper.make_node("MatMul", [f"{output}.R", f"{output}.P"], [recurrence])]
        after = [
            helper.make_node("Transpose", [f"{output}.P"], [f"{output}.PT"], perm=[0, 2, 1]),
            helper.make_node("MatMul", [result, f"{output}.PT"], [projected]),
        ]
    shape = numpy_helper.from_array(np.array([0, 0, -1]), f"{output}.shape")
    graph.initializer.append(shape)
    cell_inputs = [inputs, f"{output}.W", recurrence, f"{output}.B", lengths]
    return [
        *before,
        helper.make_node("Transpose", [states], [inputs], perm=[1, 0, 2]),
        helper.make_node(node.op_type.upper(), cell_inputs, [result], name=output, **attributes),
        *after,
        helper.make_node("Transpose", [after[-1].output[0] if after else result], [transposed], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", [transposed, shape.name], [output]),
    ]


def _reorder_gates(weight: np.ndarray, order: list[int]) -> np.ndarray:
    """Return the rows of [directions, outputs, ...] with the gates in another order."""
    gates = np.split(weight, len(order), axis=1)
    return np.concatenate([gates[i] for i in order], axis=1)


def quantize_recurrent(model: ModelProto, inputs: ActivationQuantizer) -> None:
    """Quantize the weights of recurrent layers to 8 bits, one scale for each output, in place.

    Args:
        model: with standard operators.
        inputs: the quantizer of inputs; those of an LSTM are quantized per tensor, or not at all.
    """
    graph, nodes = model.graph, []
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("LSTM", "GRU", "RNN")]
    for node in layers:
        weights = {key: tensors[f"{node.name}.{key}"] for key in "WRP" if f"{node.name}.{key}" in tensors}
        quantized = {key: _quantize(numpy_helper.to_array(tensor)) for key, tensor in weights.items()}
        if node.op_type == "LSTM" and "P" not in quantized and inputs.granularity == "tensor":
            _make_dynamic(graph, node, quantized)
        else:
            for key, (codes, scale) in quantized.items():
                nodes += _dequantize_nodes(graph, f"{node.name}.{key}", codes, scale)
    if layers:
        replace_nodes(graph, [*nodes, *graph.node])
        import_ort_domain(model)


def _quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the int8 codes of weights [directions, outputs, inputs], and their scales [directions, outputs, 1]."""
    rows = torch.from_numpy(weight.reshape(-1, weight.shape[-1]).copy())
    codes, scale = quantize_weight(rows)
    return codes.numpy().reshape(weight.shape), scale.numpy().reshape(*weight.shape[:2], 1)


def _make_dynamic(graph: GraphProto, node: NodeProto, quantized: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Turn an LSTM into ``DynamicQuantizeLSTM``, in place."""
    node.op_type, node.domain = "DynamicQuantizeLSTM", ORT_DOMAIN
    node.input.extend(["", "", ""])  # initial states, initial memory, peepholes
    for index, (key, (codes, scale)) in enumerate(quantized.items(), start=1):
        name = f"{node.name}.{key}"
        codes, scale = np.ascontiguousarray(codes.transpose(0, 2, 1)), scale.squeeze(-1)
        tensors = {f"{name}_codes": codes, f"{name}_scale": scale, f"{name}_zero": np.zeros_like(scale, dtype=np.int8)}
        graph.initializer.extend(numpy_helper.from_array(values, tensor) for tensor, values in tensors.items())
        node.input[index] = f"{name}_codes"
        node.input.extend([f"{name}_scale", f"{name}_zero"])


def _dequantize_nodes(graph: GraphProto, name: str, codes: np.ndarray, scale: np.ndarray) -> list[NodeProto]:
    """Return the nodes that dequantize a weight; ONNX Runtime runs them once, since they depend on no input."""
    graph.initializer.append(numpy_helper.from_array(codes, f"{name}_codes"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    original = next(tensor for tensor in graph.initializer if tensor.name == name)
    graph.initializer.remove(original)
    return [
        helper.make_node("Cast", [f"{name}_codes"], [f"{name}_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name]),
    ]
