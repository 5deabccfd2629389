"""Export to ONNX, float32 and int8 with the numerics of ``fake_quant``; ``onnx_model`` runs the file.

What was quantized in training becomes int8: products with a constant matrix (all linear layers, pooler and classifier
included), token, position and type embeddings (see ``onnx_int8``), and the weights of recurrent layers (see
``recurrent``). Products of two activations (attention), biases, norms and softmax stay float32.

Codes and scales are the same as in training, bit for bit. Logits still differ where float sums in another order move
an activation across the border between two codes, and the deeper the model, the more follows from such a flip: as
much as between float32 and float64 of the same torch model. So deployments are compared by their predictions.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import GraphProto, NodeProto, helper, numpy_helper
from torch import Tensor, nn
from transformers import PreTrainedModel

from quant_aware.export.onnx_graph import digest, float_matrices, is_lookup, replace_nodes
from quant_aware.export.onnx_int8 import Weights, quantize_matrices
from quant_aware.export.recurrent import quantize_recurrent, use_standard_operators
from quant_aware.quantizers.activations import ActivationQuantizer
from students.recording.model_io import output_logits, plain_kernels

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")
"""The tensors of a batch that a model reads, in their order in the file, each int64 [batch, length]."""


def export_onnx(model: PreTrainedModel, batch: dict[str, Tensor], path: str | Path) -> None:
    """Write a model with plain (folded) weights as float32 ONNX, for any batch size and length.

    The inputs are those of ``INPUTS`` that are in ``batch``, [batch, length]; the output is ``logits``. The model is
    left in eval mode. The file must stay below 2 GB, the limit of its format. Attention is exported as "eager",
    whatever the model uses: the exporter's SDPA has NaN guards, and in int8 it is a tenth slower.

    Raises:
        ValueError: if the batch has no input_ids, or only one token per row (a size of 1 would become a constant).
    """
    names = [name for name in INPUTS if name in batch]
    if "input_ids" not in names:
        raise ValueError(f"the sample batch has no input_ids; it has {', '.join(batch) or 'nothing'}")
    if batch["input_ids"].shape[1] < 2:
        raise ValueError("the sample batch needs at least 2 tokens per row")
    # Two rows, since a batch size of one would become a constant.
    inputs = tuple(batch[name][:1].repeat(2, 1).to(model.device) for name in names)
    shapes = tuple({0: "batch", 1: "decoder_length" if name.startswith("decoder") else "length"} for name in names)
    with plain_kernels(model), _no_warnings():
        program = torch.onnx.export(
            _Logits(model, names).eval(),
            inputs,
            dynamo=True,
            verbose=False,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes={"tensors": shapes},
        )
    proto = program.model_proto
    _strip(proto.graph)
    _merge_shared_weights(proto.graph)
    use_standard_operators(proto)
    onnx.save(proto, path)


def quantize_onnx(
    fp32_path: str | Path,
    int8_path: str | Path,
    weights: Weights | None = None,
    inputs: ActivationQuantizer | None = None,
) -> None:
    """Write the int8 form of a float32 file: weights int8 per output channel, their inputs quantized as in training.

    Weights that are int8 values already are kept exactly. An embedding becomes int8 rows with a float32 scale each:
    ONNX Runtime's own form, one uint8 range for the whole embedding, is less accurate.

    Args:
        fp32_path: a file written by ``export_onnx``.
        int8_path: the file to write.
        weights: the weights that were quantized in training, by name: their values, by which they are found in the
            file, and their output axis. No other weight becomes int8; if not given, all do.
        inputs: the quantizer of the inputs of products; int8 per tensor if not given.
    """
    model, inputs = onnx.load(fp32_path), inputs or ActivationQuantizer()
    quantize_recurrent(model, inputs)
    quantize_matrices(model, weights, inputs)
    onnx.save(model, int8_path)


class _Logits(nn.Module):
    """A model with positional inputs and one output; a decoder's key-value cache would be an output too."""

    def __init__(self, model: PreTrainedModel, names: list[str]):
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *tensors: Tensor) -> Tensor:
        return output_logits(self.model(**dict(zip(self.names, tensors, strict=True))))


def _strip(graph: GraphProto) -> None:
    """Remove unused inputs, stack traces (they name folders of this machine), and the shapes of inner values.

    The shapes contradict those that ONNX Runtime infers when it quantizes, which makes it fail.
    """
    used = {name for node in graph.node for name in node.input}
    for unused in [value for value in graph.input if value.name not in used]:
        graph.input.remove(unused)
    del graph.value_info[:]
    for item in (graph, *graph.node, *graph.input, *graph.output):
        del item.metadata_props[:]


def _merge_shared_weights(graph: GraphProto) -> None:
    """Store a weight that several layers share only once.

    The exporter writes a transposed copy for each of them, or a Transpose in the graph, which ONNX Runtime does not
    take for a constant and therefore does not quantize.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    transposes = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in constants]
    uses = Counter(name for node in graph.node for name in node.input)
    uses.subtract(node.input[0] for node in transposes)
    for node in transposes:
        if not uses[node.input[0]]:  # an embedding that is tied to the head is looked up as well
            values = numpy_helper.to_array(constants[node.input[0]]).T
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), node.output[0]))
            graph.node.remove(node)
    first: dict[tuple, str] = {}
    names = {
        tensor.name: first.setdefault((tensor.data_type, *tensor.dims, sha256(tensor.raw_data).digest()), tensor.name)
        for tensor in graph.initializer
        if tensor.raw_data
    }
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    replace_nodes(graph, _transpose_tied_embeddings(graph))


def _transpose_tied_embeddings(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes, with an embedding that is tied to the head transposed in the graph.

    Beside a small embedding the exporter writes a transposed copy.
    """
    matrices = float_matrices(graph)
    embeddings = {node.input[0] for node in graph.node if is_lookup(node)} & matrices.keys()
    by_transpose = {digest(matrices[name].T): name for name in embeddings}
    transposed: set[str] = set()
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices:
            embedding = by_transpose.get(digest(matrices[node.input[1]]))
            if embedding and node.input[1] != embedding:
                node.input[1] = f"{embedding}_transposed"
                if embedding not in transposed:
                    yield helper.make_node("Transpose", [embedding], [f"{embedding}_transposed"], perm=[1, 0])
                transposed.add(embedding)
        yield node


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silence the warnings of the two exporters, which say nothing about the model; errors come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
