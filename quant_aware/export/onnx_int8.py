"""Constant matrices of an ONNX graph as int8: embeddings, and the right factors of products.

A matrix that is both, token embeddings tied to the head, stays one tensor: its codes are stored as rows, with a scale
for each, and the product reads them transposed, which ONNX Runtime computes once, when it opens the file.
"""

from collections.abc import Mapping

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from quant_aware.export.onnx_graph import (
    ORT_DOMAIN,
    attribute,
    digest,
    float_matrices,
    import_ort_domain,
    is_lookup,
    replace_nodes,
)
from quant_aware.quantizers.activations import ActivationQuantizer
from quant_aware.quantizers.fake_quant import quantize_weight

Weights = Mapping[str, tuple[Tensor, int]]
"""By name the values of a weight and its output axis."""


def quantize_matrices(model: ModelProto, weights: Weights | None, inputs: ActivationQuantizer) -> None:
    """Quantize matrices to 8 bits, one scale for each output (of an embedding, each row), in place.

    Args:
        model: float32.
        weights: those that were quantized in training, under other names and transposed in the file; no other matrix
            is changed. If not given, all are quantized.
        inputs: the quantizer of the left factors.
    """
    graph = model.graph
    matrices, trained = float_matrices(graph), _digests(weights)
    transposed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    axes: dict[str, int] = {}
    lookups, products = {}, {}
    for index, node in enumerate(graph.node):
        if is_lookup(node):
            name, axis = node.input[0], 0
        elif node.op_type == "MatMul" or _is_plain_gemm(node):
            name, axis = node.input[1], 0 if attribute(node, "transB", 0) else 1
            if name in transposed:
                name, axis = transposed[name], 1 - axis
        else:
            continue
        is_quantized = name in matrices and (trained is None or (axis, *digest(matrices[name])) in trained)
        if is_quantized and axes.setdefault(name, axis) == axis:
            (lookups if is_lookup(node) else products)[index] = name
    writer = _Int8Writer(graph, inputs)
    for name, axis in axes.items():
        writer.add(name, matrices[name], axis, as_rows=name in lookups.values())
    nodes = []
    for index, node in enumerate(graph.node):
        if index in lookups:
            nodes += writer.lookup(lookups[index], node)
        elif index in products:
            nodes += writer.product(products[index], node)
        else:
            nodes.append(node)
    replace_nodes(graph, _without_unused_transposes(graph, nodes))
    if any(node.domain == ORT_DOMAIN for node in nodes):
        import_ort_domain(model)


class _Int8Writer:
    """Adds codes and scales to a graph, and makes the nodes that use them.

    Args:
        graph: to which constants are added.
        inputs: the quantizer of left factors.
    """

    def __init__(self, graph: GraphProto, inputs: ActivationQuantizer):
        self.graph, self.inputs = graph, inputs
        self.stored_as_rows: set[str] = set()
        self.quantized_inputs: dict[str, tuple[str, str, str]] = {}
        """The names of codes, scale and zero point of each left factor."""
        self.transposed: set[str] = set()

    def add(self, name: str, values: np.ndarray, axis: int, as_rows: bool) -> None:
        """Quantize a matrix, stored as rows of outputs or, for products alone, as columns."""
        codes, scale = (tensor.numpy() for tensor in quantize_weight(torch.from_numpy(values.copy()), axis))
        if as_rows:
            self.stored_as_rows.add(name)
            self._constant(f"{name}_codes", codes)
        else:
            scale = scale.flatten()
            self._constant(f"{name}_quantized", codes if axis == 1 else codes.T)
        self._constant(f"{name}_scale", scale)

    def lookup(self, embedding: str, node: NodeProto) -> list[NodeProto]:
        """Return the nodes of ``float(codes[ids]) * scale[ids]``."""
        ids, output = node.input[1], node.output[0]
        return [
            helper.make_node("Gather", [f"{embedding}_codes", ids], [f"{output}.row_codes"], axis=0),
            helper.make_node("Cast", [f"{output}.row_codes"], [f"{output}.row_float"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{embedding}_scale", ids], [f"{output}.row_scale"], axis=0),
            helper.make_node("Mul", [f"{output}.row_float", f"{output}.row_scale"], [output]),
        ]

    def product(self, matrix: str, node: NodeProto) -> list[NodeProto]:
        """Return the nodes of the product of quantized inputs and a matrix, its bias added if it has one."""
        output, bias = node.output[0], [name for name in node.input[2:] if name]
        nodes, (codes, scale) = self._columns(matrix)
        product = f"{output}.product" if bias else output
        quantize_nodes, left = self._quantize_input(node.input[0])
        multiply = self._multiply_per_token if self.inputs.granularity == "token" else self._multiply_per_tensor
        nodes += [*quantize_nodes, *multiply(left, codes, scale, product)]
        return [*nodes, helper.make_node("Add", [product, *bias], [output])] if bias else nodes

    def _columns(self, matrix: str) -> tuple[list[NodeProto], tuple[str, str]]:
        """Return the codes [in, out] and scales [out] of a matrix, and the nodes that transpose rows."""
        codes, scale = f"{matrix}_codes", f"{matrix}_scale"
        if matrix not in self.stored_as_rows:
            return [], (f"{matrix}_quantized", scale)
        columns = f"{codes}.transposed", f"{scale}.transposed"
        if matrix in self.transposed:
            return [], columns
        self.transposed.add(matrix)
        return [
            helper.make_node("Transpose", [codes], columns[:1], perm=[1, 0]),
            helper.make_node("Squeeze", [scale, self._constant("int8.second_axis", np.array([1]))], columns[1:]),
        ], columns

    def _quantize_input(self, x: str) -> tuple[list[NodeProto], tuple[str, str, str]]:
        """Return the nodes and names of codes, scale and zero point of a left factor, made once for all products."""
        if x in self.quantized_inputs:
            return [], self.quantized_inputs[x]
        left = self.quantized_inputs[x] = f"{x}.codes", f"{x}.scale", f"{x}.zero"
        if self.inputs.granularity == "tensor":
            return [helper.make_node("DynamicQuantizeLinear", [x], left)], left
        self.quantized_inputs[x] = left = *left[:2], self._constant("int8.zero_point", np.array(128, np.uint8))
        one, max_code = self._constant("int8.one", np.float32(1)), self._constant("int8.max_code", np.float32(127))
        min_scale = self._constant("int8.min_scale", np.finfo(np.float32).tiny)
        last_axis = self._constant("int8.last_axis", np.array([-1]))
        names = [f"{x}.{name}" for name in ("max", "min", "negative_min", "max_magnitude", "raw_scale", "scaled")]
        maximum, minimum, negative_minimum, magnitude, raw_scale, scaled = names
        return [
            helper.make_node("ReduceMax", [x, last_axis], [maximum], keepdims=1),
            helper.make_node("ReduceMin", [x, last_axis], [minimum], keepdims=1),
            helper.make_node("Neg", [minimum], [negative_minimum]),
            helper.make_node("Max", [maximum, negative_minimum], [magnitude]),
            helper.make_node("Div", [magnitude, max_code], [raw_scale]),
            helper.make_node("Max", [raw_scale, min_scale], [left[1]]),
            helper.make_node("Div", [x, left[1]], [scaled]),
            helper.make_node("QuantizeLinear", [scaled, one, left[2]], [left[0]]),
        ], left

    def _multiply_per_tensor(self, left: tuple[str, str, str], codes: str, scale: str, output: str) -> list[NodeProto]:
        # In the form that ONNX Runtime's fusions look for, which is that of its own quantize_dynamic.
        (x, x_scale, x_zero), names = left, [f"{output}.{name}" for name in ("integer", "float", "both_scales")]
        return [
            helper.make_node("MatMulInteger", [x, codes, x_zero], names[:1]),
            helper.make_node("Cast", names[:1], names[1:2], to=TensorProto.FLOAT),
            helper.make_node("Mul", [x_scale, scale], names[2:]),
            helper.make_node("Mul", names[1:], [output]),
        ]

    def _multiply_per_token(self, left: tuple[str, str, str], codes: str, scale: str, output: str) -> list[NodeProto]:
        # The fused operator itself, since the fusion does not support a scale for each row.
        (x, x_scale, x_zero), one = left, self._constant("int8.one", np.float32(1))
        inputs, product = [x, codes, one, scale, x_zero], f"{output}.float"
        return [
            helper.make_node("MatMulIntegerToFloat", inputs, [product], domain=ORT_DOMAIN),
            helper.make_node("Mul", [product, x_scale], [output]),
        ]

    def _constant(self, name: str, values: np.ndarray) -> str:
        if not any(tensor.name == name for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _digests(weights: Weights | None) -> set[tuple] | None:
    """Return the output axis and the digest of each weight as it may be stored in a file, as rows or as columns."""
    if weights is None:
        return None
    matrices = [values.detach().cpu().float().movedim(axis, 0).numpy() for values, axis in weights.values()]
    return {(axis, *digest(rows.T if axis else rows)) for rows in matrices for axis in (0, 1)}


def _is_plain_gemm(node: NodeProto) -> bool:
    """Return whether a node is the product of two matrices and a bias."""
    factors = [attribute(node, name, 1) for name in ("alpha", "beta")]
    return node.op_type == "Gemm" and not attribute(node, "transA", 0) and factors == [1, 1]


def _without_unused_transposes(graph: GraphProto, nodes: list[NodeProto]) -> list[NodeProto]:
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    return [node for node in nodes if node.op_type != "Transpose" or node.output[0] in used]
