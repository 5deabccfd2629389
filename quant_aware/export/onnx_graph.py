"""What is done to the nodes and constants of any ONNX graph."""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

OWN = "com.microsoft"
"""The domain of operators that ONNX Runtime alone has."""


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Give the graph other nodes, and take out the initializers that none of them reads."""
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def use_own_operators(model: ModelProto) -> None:
    """Declare the domain of ONNX Runtime's own operators."""
    if not any(each.domain == OWN for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(OWN, 1))


def float_matrices(graph: GraphProto) -> dict[str, np.ndarray]:
    """The float32 constants of two dimensions that hold numbers, by name."""
    found = (each for each in graph.initializer if each.data_type == TensorProto.FLOAT and len(each.dims) == 2)
    return {each.name: numpy_helper.to_array(each) for each in found if 0 not in each.dims}


def attribute(node: NodeProto, name: str, default: float) -> float:
    """A number among the attributes of a node."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def is_lookup(node: NodeProto) -> bool:
    """Whether it looks rows up in its first input."""
    return node.op_type == "Gather" and attribute(node, "axis", 0) == 0


def digest(values: np.ndarray) -> tuple:
    """The same of arrays of one shape and the same numbers, -0 being 0, however they lie in memory."""
    return *values.shape, sha256(np.ascontiguousarray(values) + np.float32(0)).digest()
