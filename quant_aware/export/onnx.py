"""Export to ONNX, and real int8 with the numerics of ``fake_quant``; ``onnx_model`` runs the file.

What becomes int8 is what was rounded in training: products with a constant matrix (all linear layers, pooler and
classifier included), token embeddings, positions and types (see ``onnx_int8``), and the weights of recurrent layers
(see ``recurrent``). Products of two activations (attention), biases, norms and softmax stay float32.

The grids are the same as in training, bit for bit. Logits still differ where float sums in another order move
an activation across the edge between two codes, and the deeper the model, the more such a flip sets off: as
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
from quant_aware.export.recurrent import quantize_recurrent, standardize
from quant_aware.quantizers.activations import Activations
from students.recording.model_io import output_logits

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")
"""The tensors of a batch that a model reads, in their order in the file, each int64 [batch, length]."""


def export_onnx(model: PreTrainedModel, batch: dict[str, Tensor], path: str | Path) -> None:
    """Writes a model with plain (folded) weights as float32 ONNX, for any batch and length.

    The inputs are those of ``INPUTS`` that are in ``batch``, [batch, length]; the output is ``logits``.
    The model is left in eval mode. The file must stay below 2 GB, the limit of its format. Attention is
    written out plainly ("eager"), whatever the model uses: the fused one comes out slower, NaN guards in it.

    Raises:
        ValueError: if the batch has no input_ids, or only one token per row (a size of 1 would be built in).
    """
    names = [name for name in INPUTS if name in batch]
    if "input_ids" not in names:
        raise ValueError(f"the sample batch has no input_ids; it has {', '.join(batch) or 'nothing'}")
    if batch["input_ids"].shape[1] < 2:
        raise ValueError("the sample batch needs at least 2 tokens per row")
    # Two rows, since a batch of one would be taken for a constant.
    inputs = tuple(batch[name][:1].repeat(2, 1).to(model.device) for name in names)
    shapes = tuple({0: "batch", 1: "written" if name.startswith("decoder") else "length"} for name in names)
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with _quiet():
            program = torch.onnx.export(
                _Logits(model, names).eval(),
                inputs,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=["logits"],
                dynamic_shapes={"tensors": shapes},
            )
    finally:
        model.set_attn_implementation(attention)
    file = program.model_proto
    _strip(file.graph)
    _merge(file.graph)
    standardize(file)
    onnx.save(file, path)


def quantize_onnx(
    fp32_path: str | Path, int8_path: str | Path, weights: Weights | None = None, inputs: Activations | None = None
) -> None:
    """Writes the int8 form of a float32 file: weights int8 per output channel, their inputs rounded as in training.

    Weights that are on their grid of 8 bits are kept exactly. An embedding table becomes int8 rows with a
    float32 scale each: ONNX Runtime's own form, one uint8 range for the whole table, is a coarser grid.

    Args:
        fp32_path: what ``export_onnx`` wrote.
        int8_path: of the file to write.
        weights: what was rounded in training, by its name in the model: the values, which are sought in the file, and
            the axis of outputs. Nothing else becomes int8; if not given, all does.
        inputs: how the inputs of products are rounded; if not given, all at once.
    """
    model, inputs = onnx.load(fp32_path), inputs or Activations()
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
    """Takes out inputs that are not looked at, the stack traces, which name folders of this machine, and the shapes of
    inner values.

    The shapes contradict the ones that ONNX Runtime infers when it quantises, which makes it fail.
    """
    read = {name for node in graph.node for name in node.input}
    for unread in [part for part in graph.input if part.name not in read]:
        graph.input.remove(unread)
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output):
        del part.metadata_props[:]


def _merge(graph: GraphProto) -> None:
    """Keeps a weight that several layers share once: the exporter turns it around for each of them, or in the graph,
    where ONNX Runtime takes it for no constant and does not quantise it.
    """
    constants = {each.name: each for each in graph.initializer}
    turned = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in constants]
    read = Counter(name for node in graph.node for name in node.input)
    read.subtract(node.input[0] for node in turned)
    for node in turned:
        if not read[node.input[0]]:  # a table that is the head too is looked up as well
            values = numpy_helper.to_array(constants[node.input[0]]).T
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), node.output[0]))
            graph.node.remove(node)
    first: dict[tuple, str] = {}
    names = {
        each.name: first.setdefault((each.data_type, *each.dims, sha256(each.raw_data).digest()), each.name)
        for each in graph.initializer
        if each.raw_data
    }
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    replace_nodes(graph, _turn_tables(graph))


def _turn_tables(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes, with a table that is the head too turned around in the graph: of a small one the exporter wrote a
    turned copy beside it.
    """
    matrices = float_matrices(graph)
    tables = {node.input[0] for node in graph.node if is_lookup(node)} & matrices.keys()
    copies = {digest(matrices[name].T): name for name in tables}
    turned: set[str] = set()
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices:
            table = copies.get(digest(matrices[node.input[1]]))
            if table and node.input[1] != table:
                node.input[1] = f"{table}_turned"
                if table not in turned:
                    yield helper.make_node("Transpose", [table], [f"{table}_turned"], perm=[1, 0])
                turned.add(table)
        yield node


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the two exporters, which say nothing about the model; errors come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
