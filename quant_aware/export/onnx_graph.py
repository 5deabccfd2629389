"""Helpers for the nodes and constants of any ONNX graph."""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

ORT_DOMAIN = "com.microsoft"
"""The domain of the operators that only ONNX Runtime has."""


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Replace the nodes of a graph, and remove the initializers that none of them reads."""
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def import_ort_domain(model: ModelProto) -> None:
    """Declare the domain of ONNX Runtime's own operators."""
    if not any(opset.domain == ORT_DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(ORT_DOMAIN, 1))


def float_matrices(graph: GraphProto) -> dict[str, np.ndarray]:
    """Return the float32 constants of two dimensions that are not empty, by name."""
    tensors = (t for t in graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors if 0 not in tensor.dims}


def attribute(node: NodeProto, name: str, default: float) -> float:
    """Return a numeric attribute of a node."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def is_lookup(node: NodeProto) -> bool:
    """Return whether a node looks up rows of its first input."""
    return node.op_type == "Gather" and attribute(node, "axis", 0) == 0


def digest(values: np.ndarray) -> tuple:
    """Return a key that is equal for arrays of equal shape and values, with -0 as 0, in any memory layout."""
    return *values.shape, sha256(np.ascontiguousarray(values) + np.float32(0)).digest()
