"""A model in ONNX Runtime, float32 or int8, on this CPU."""

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

    On x86 CPUs without VNNI (AVX2, early AVX-512), ONNX Runtime's product of uint8 and int8 adds pairs in 16 bits and
    saturates, which can ruin the answers. Only there, ``session.x64quantprecision`` is set: an exact kernel, but
    slower. Programs of your own that run the file on such a CPU must set it too, and give each product its own weight
    (``untie_int8_weights``).
    """

    def __init__(self, path: str | Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        model: str | bytes = str(path)
        if int8_saturates():
            options.add_session_config_entry("session.x64quantprecision", "1")
            model = untie_int8_weights(onnx.load(path)).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = [node.name for node in self.session.get_inputs()]

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the logits [batch, ..., outputs], float32; keys that are no inputs of the file are ignored.

        Raises:
            ValueError: if the batch lacks an input.
        """
        missing = [name for name in self.inputs if name not in batch]
        if missing:
            raise ValueError(f"the batch lacks {', '.join(missing)}")
        feed = {name: batch[name].cpu().numpy() for name in self.inputs}
        return torch.from_numpy(self.session.run(["logits"], feed)[0])


@cache
def int8_saturates() -> bool:
    """Return whether ONNX Runtime's product of uint8 and int8 overflows on this CPU, tested with the largest codes."""
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


def untie_int8_weights(model: ModelProto) -> ModelProto:
    """Give each product its own copy of its int8 matrix, in place, and return the model.

    ``session.x64quantprecision`` rewrites the matrices of products one after the other, and ONNX Runtime fails at one
    that it has rewritten already.
    """
    graph = model.graph
    matrices = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT8}
    transposed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    used: set[str] = set()
    for node in graph.node:
        if node.op_type not in ("MatMulInteger", "MatMulIntegerToFloat"):
            continue
        name = node.input[1]
        if name in used:
            values = numpy_helper.to_array(matrices[transposed.get(name, name)])
            copy = np.ascontiguousarray(values.T if name in transposed else values)
            node.input[1] = f"{name} of {node.output[0]}"
            graph.initializer.append(numpy_helper.from_array(copy, node.input[1]))
        elif transposed.get(name, name) in matrices:
            used.add(name)
    return model
