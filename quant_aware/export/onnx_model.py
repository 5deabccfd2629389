"""Runs an ONNX file, in float32 or int8, on this CPU."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor


class OnnxModel:
    """A model in ONNX Runtime on the CPU, with as many threads as torch has.

    On x86 CPUs without VNNI (AVX2, early AVX-512), ONNX Runtime's product of uint8 and int8 adds pairs in 16
    bits and saturates, which can ruin the answers. There (only), ``session.x64quantprecision`` is set: an
    exact kernel, but slower. Who runs the file on such a CPU with code of his own must set it too, and see to it that
    no two products read one weight (``apart``).
    """

    def __init__(self, path: str | Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        file: str | bytes = str(path)
        if saturates():
            options.add_session_config_entry("session.x64quantprecision", "1")
            file = apart(onnx.load(path)).SerializeToString()
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.inputs = [node.name for node in self.session.get_inputs()]

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        """The logits [batch, ..., outputs], float32; other keys than the file's inputs are ignored.

        Raises:
            ValueError: if the batch lacks an input.
        """
        missing = [name for name in self.inputs if name not in batch]
        if missing:
            raise ValueError(f"the batch lacks {', '.join(missing)}")
        feed = {name: batch[name].cpu().numpy() for name in self.inputs}
        return torch.from_numpy(self.session.run(["logits"], feed)[0])


@cache
def saturates() -> bool:
    """Whether ONNX Runtime's product of uint8 and int8 overflows on this CPU, tried on the largest codes."""
    size = 64
    ones = np.ones((size, size))
    inputs = [helper.make_tensor_value_info("a", TensorProto.UINT8, [size, size])]
    outputs = [helper.make_tensor_value_info("c", TensorProto.INT32, [size, size])]
    weight = numpy_helper.from_array((127 * ones).astype(np.int8), "b")
    node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "probe", inputs, outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    product = session.run(None, {"a": (255 * ones).astype(np.uint8)})[0]
    return bool((product != 255 * 127 * size).any())


def apart(file: ModelProto) -> ModelProto:
    """The model with an int8 matrix of its own for each product, and no other change.

    ``session.x64quantprecision`` rewrites the matrices of products one after the other, and ONNX Runtime fails at one
    that it has rewritten already.
    """
    graph = file.graph
    matrices = {each.name: each for each in graph.initializer if each.data_type == TensorProto.INT8}
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    seen: set[str] = set()
    for node in graph.node:
        if node.op_type not in ("MatMulInteger", "MatMulIntegerToFloat"):
            continue
        name = node.input[1]
        if name in seen:
            values = numpy_helper.to_array(matrices[turned.get(name, name)])
            copy = np.ascontiguousarray(values.T if name in turned else values)
            node.input[1] = f"{name} of {node.output[0]}"
            graph.initializer.append(numpy_helper.from_array(copy, node.input[1]))
        elif turned.get(name, name) in matrices:
            seen.add(name)
    return file
