"""Constant matrices of an ONNX graph as int8: tables in which rows are looked up, and right factors of products.

A matrix that is both, token embeddings and the head, stays one tensor: its codes lie in rows, with a scale for each,
and the product reads them turned around, which ONNX Runtime does once, when it opens the file.
"""

from collections.abc import Mapping

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from quant_aware.export.onnx_graph import (
    OWN,
    attribute,
    digest,
    float_matrices,
    is_lookup,
    replace_nodes,
    use_own_operators,
)
from quant_aware.quantizers.activations import Activations
from quant_aware.quantizers.fake_quant import quantize_weight

Weights = Mapping[str, tuple[Tensor, int]]
"""By name the values of a weight and the axis of its outputs."""


def quantize_matrices(model: ModelProto, weights: Weights | None, inputs: Activations) -> None:
    """Bring matrices to 8 bits, one scale for each output (of a table, each row), in place.

    Args:
        model: float32.
        weights: those that were rounded in training, which the file may name and turn otherwise; no other matrix is
            touched. If not given, all are meant.
        inputs: how the left factors are rounded.
    """
    graph = model.graph
    matrices, trained = float_matrices(graph), _digests(weights)
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    axes: dict[str, int] = {}
    tables, products = {}, {}
    for at, node in enumerate(graph.node):
        if is_lookup(node):
            name, axis = node.input[0], 0
        elif node.op_type == "MatMul" or _is_plain_gemm(node):
            name, axis = node.input[1], 0 if attribute(node, "transB", 0) else 1
            if name in turned:
                name, axis = turned[name], 1 - axis
        else:
            continue
        meant = name in matrices and (trained is None or (axis, *digest(matrices[name])) in trained)
        if meant and axes.setdefault(name, axis) == axis:
            (tables if is_lookup(node) else products)[at] = name
    file = _Int8(graph, inputs)
    for name, axis in axes.items():
        file.add(name, matrices[name], axis, rows=name in tables.values())
    nodes = []
    for at, node in enumerate(graph.node):
        if at in tables:
            nodes += file.lookup(tables[at], node)
        elif at in products:
            nodes += file.product(products[at], node)
        else:
            nodes.append(node)
    replace_nodes(graph, _read(graph, nodes))
    if any(node.domain == OWN for node in nodes):
        use_own_operators(model)


class _Int8:
    """The codes and scales that have been added to a graph, and the nodes that use them.

    Args:
        graph: to which constants are added.
        inputs: how left factors are rounded.
    """

    def __init__(self, graph: GraphProto, inputs: Activations):
        self.graph, self.inputs = graph, inputs
        self.in_rows: set[str] = set()
        self.rounded: dict[str, tuple[str, str, str]] = {}
        """Of each left factor codes, scale and zero point."""
        self.made: set[str] = set()

    def add(self, name: str, values: np.ndarray, axis: int, rows: bool) -> None:
        """Bring a matrix to int8, in rows of outputs or, for products alone, in columns."""
        codes, scale = (each.numpy() for each in quantize_weight(torch.from_numpy(values.copy()), axis))
        if rows:
            self.in_rows.add(name)
            self._constant(f"{name}_codes", codes)
        else:
            scale = scale.flatten()
            self._constant(f"{name}_quantized", codes if axis == 1 else codes.T)
        self._constant(f"{name}_scale", scale)

    def lookup(self, table: str, node: NodeProto) -> list[NodeProto]:
        """``float(codes[ids]) * scale[ids]``."""
        ids, output = node.input[1], node.output[0]
        return [
            helper.make_node("Gather", [f"{table}_codes", ids], [f"{output}.row_codes"], axis=0),
            helper.make_node("Cast", [f"{output}.row_codes"], [f"{output}.row_float"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table}_scale", ids], [f"{output}.row_scale"], axis=0),
            helper.make_node("Mul", [f"{output}.row_float", f"{output}.row_scale"], [output]),
        ]

    def product(self, matrix: str, node: NodeProto) -> list[NodeProto]:
        """The product of rounded inputs with the codes of a matrix, its bias added if it has one."""
        output, bias = node.output[0], [name for name in node.input[2:] if name]
        nodes, (codes, scale) = self._columns(matrix)
        made = f"{output}.product" if bias else output
        rounding, left = self._round(node.input[0])
        multiply = self._of_tokens if self.inputs.per == "token" else self._of_tensor
        nodes += [*rounding, *multiply(left, codes, scale, made)]
        return [*nodes, helper.make_node("Add", [made, *bias], [output])] if bias else nodes

    def _columns(self, matrix: str) -> tuple[list[NodeProto], tuple[str, str]]:
        """The codes [in, out] and scales [out] of a matrix, and what turns them if they lie in rows."""
        codes, scale = f"{matrix}_codes", f"{matrix}_scale"
        if matrix not in self.in_rows:
            return [], (f"{matrix}_quantized", scale)
        turned = f"{codes}.turned", f"{scale}.turned"
        if matrix in self.made:
            return [], turned
        self.made.add(matrix)
        return [
            helper.make_node("Transpose", [codes], turned[:1], perm=[1, 0]),
            helper.make_node("Squeeze", [scale, self._constant("int8.second_axis", np.array([1]))], turned[1:]),
        ], turned

    def _round(self, x: str) -> tuple[list[NodeProto], tuple[str, str, str]]:
        """Codes, scale and zero point of a left factor, made once however many products read it."""
        if x in self.rounded:
            return [], self.rounded[x]
        left = self.rounded[x] = f"{x}.codes", f"{x}.scale", f"{x}.zero"
        if self.inputs.per == "tensor":
            return [helper.make_node("DynamicQuantizeLinear", [x], left)], left
        self.rounded[x] = left = *left[:2], self._constant("int8.middle_code", np.array(128, np.uint8))
        one, top = self._constant("int8.one", np.float32(1)), self._constant("int8.top_code", np.float32(127))
        least = self._constant("int8.least_scale", np.finfo(np.float32).tiny)
        last = self._constant("int8.last_axis", np.array([-1]))
        parts = [f"{x}.{part}" for part in ("highest", "lowest", "below", "largest", "step", "scaled")]
        highest, lowest, below, largest, step, scaled = parts
        return [
            helper.make_node("ReduceMax", [x, last], [highest], keepdims=1),
            helper.make_node("ReduceMin", [x, last], [lowest], keepdims=1),
            helper.make_node("Neg", [lowest], [below]),
            helper.make_node("Max", [highest, below], [largest]),
            helper.make_node("Div", [largest, top], [step]),
            helper.make_node("Max", [step, least], [left[1]]),
            helper.make_node("Div", [x, left[1]], [scaled]),
            helper.make_node("QuantizeLinear", [scaled, one, left[2]], [left[0]]),
        ], left

    def _of_tensor(self, left: tuple[str, str, str], codes: str, scale: str, output: str) -> list[NodeProto]:
        # In the form that ONNX Runtime's fusions look for, which is that of its own quantize_dynamic.
        (x, x_scale, x_zero), parts = left, [f"{output}.{part}" for part in ("integer", "float", "both_scales")]
        return [
            helper.make_node("MatMulInteger", [x, codes, x_zero], parts[:1]),
            helper.make_node("Cast", parts[:1], parts[1:2], to=TensorProto.FLOAT),
            helper.make_node("Mul", [x_scale, scale], parts[2:]),
            helper.make_node("Mul", parts[1:], [output]),
        ]

    def _of_tokens(self, left: tuple[str, str, str], codes: str, scale: str, output: str) -> list[NodeProto]:
        # What that fusion makes, written out: it takes no scale for each row.
        (x, x_scale, x_zero), one = left, self._constant("int8.one", np.float32(1))
        return [
            helper.make_node("MatMulIntegerToFloat", [x, codes, one, scale, x_zero], [f"{output}.float"], domain=OWN),
            helper.make_node("Mul", [f"{output}.float", x_scale], [output]),
        ]

    def _constant(self, name: str, values: np.ndarray) -> str:
        if not any(each.name == name for each in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _digests(weights: Weights | None) -> set[tuple] | None:
    """Of each weight the axis of outputs and the digest, as it may stand in a file, in rows or in columns."""
    if weights is None:
        return None
    rows = [values.detach().cpu().float().movedim(axis, 0).numpy() for values, axis in weights.values()]
    return {(axis, *digest(each.T if axis else each)) for each in rows for axis in (0, 1)}


def _is_plain_gemm(node: NodeProto) -> bool:
    """Whether it is the product of two matrices and a bias."""
    factors = [attribute(node, name, 1) for name in ("alpha", "beta")]
    return node.op_type == "Gemm" and not attribute(node, "transA", 0) and factors == [1, 1]


def _read(graph: GraphProto, nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes without those that turned a matrix around for nobody any more."""
    read = {name for node in nodes for name in node.input} | {each.name for each in graph.output}
    return [node for node in nodes if node.op_type != "Transpose" or node.output[0] in read]
