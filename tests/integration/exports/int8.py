"""Exported files of small students, and their sizes; shared by the tests of int8 files."""

import onnx
from onnx import TensorProto

from distill.evaluation.measure import torch_predict
from distill.export.export import rounded_weights, write_onnx
from prune_schedules.schedule import Timeline
from quant_aware.export.onnx_check import int8_mismatches
from quant_aware.quantize import Quantize
from quant_aware.quantizers.activations import ActivationQuantizer
from students.recording.model_io import model_inputs
from students.weights import fold
from tests.helpers.families import batch

VOCABULARY = 3000
TOKENS = ActivationQuantizer(granularity="token", symmetric=True)


def samples(model, name, vocab=VOCABULARY):
    """Batches of other sizes, of which the first is exported."""
    batches = [batch(name, size=4, length=9 + seed, vocab=vocab, head="language", seed=seed) for seed in range(5)]
    for rows in batches:
        rows.pop("decoder_attention_mask", None)  # the file asks for none
    return [model_inputs(model, rows) for rows in batches]


class Files:
    """The predictions of a model in training on 8 bits, and its file."""

    def __init__(self, model, given, path, activations=None):
        self.model, self.quantize = model, Quantize(activations=activations or ActivationQuantizer())
        self.skipped = self.quantize.attach(model)
        self.quantize.update(1, Timeline(total_steps=1, epoch_steps=1))
        plain = torch_predict(model)(given[0])
        self.given, self.trained = given, [torch_predict(model)(rows) for rows in given]
        self.quantize.quantize_full_embeddings()
        fold(model)
        self.quantize.remove_input_hooks()
        self.path, self.exported = path, write_onnx(model, given[0], path, self.quantize)
        self.spread = float(plain.std())

    @property
    def mismatches(self):
        return int8_mismatches(self.path, rounded_weights(self.model, self.quantize))

    @property
    def constants(self):
        return onnx.load(self.path).graph.initializer

    def check(self):
        """Float sums in another order move a single input across the edge of two codes in some batches, and never in
        most."""
        differences = [
            float((self.exported(rows) - expected).abs().max())
            for rows, expected in zip(self.given, self.trained, strict=True)
        ]
        assert sorted(differences)[len(differences) // 2] < 1e-5 * self.spread, differences
        assert self.mismatches == []


def large_floats(constants):
    """The matrices that are float32 in a file, but the scales and T5's positions, [32, 4]."""
    return [
        tensor.name
        for tensor in constants
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1 and min(tensor.dims[-2:]) > 4
    ]
