"""Export: the trained student is folded, cut, saved, and written as the file that was asked for."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.evaluation.deployed import Deployed, Exported
from distill.evaluation.measure import evaluate_model, torch_predict
from distill.experiment.experiment import Experiment
from distill.export.carry import carry, made_from, settle_tokenizer
from distill.export.vocabulary import describe_cut
from distill.run_dir.files import atomic_update_dir, atomic_write
from distill.training.module import Distillation
from prune_schedules.structure.cut import cut
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_check import departures
from quant_aware.export.onnx_int8 import Weights
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.export.packed import FILE, OnGrid, Rounded, load, save_packed
from quant_aware.quantize import Quantize
from students.tokenizer.vocabulary import Vocabulary, cut_vocabulary
from students.weights import fold, weight_matrices


def export(
    experiment: Experiment,
    module: Distillation,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    batches: list[dict[str, Tensor]],
    student_batches: list[dict[str, Tensor]],
    matrix_sizes: dict[str, int],
    vocabulary: Vocabulary | None = None,
) -> Deployed:
    """Write ``student/`` and, if asked for, ``student.onnx`` or ``student.packed.safetensors``.

    Args:
        experiment: what was asked for.
        module: after ``fit``, in the state that is to be deployed.
        folder: of the run.
        tokenizer: of the student as it was trained; saved with it if its vocabulary is not cut.
        batches: validation.
        student_batches: the same as the deployed student reads it; trained, folded, cut and exported student are
            compared on the first.
        matrix_sizes: the parameters of each matrix before training, in which units may have been cut out already.
        vocabulary: to which the student is cut.
    """
    module.cpu().float()  # whatever precision it was trained in
    student, quantize, fixed = module.student, experiment.quantize, student_batches[0]
    # Every token that is left had a number before, so both can be asked the same.
    asked = fixed | {"input_ids": vocabulary.keep[fixed["input_ids"]]} if vocabulary else fixed
    trained = torch_predict(student)(asked)
    module.recorder.close()
    if quantize:
        quantize.settle()
    fold(student)
    parity = {"folded": difference(trained, torch_predict(student)(asked))}
    cuts = cut(student)
    parity["cut"] = difference(trained, torch_predict(student)(asked))
    also = []
    if vocabulary:
        metric, size = experiment.task.main_metric, student.num_parameters()
        uncut = f"{metric} was {evaluate_model(experiment.task, torch_predict(student), batches).metrics[metric]:.4f}"
        cut_vocabulary(student, vocabulary.keep)
        parity["vocabulary"] = difference(trained, torch_predict(student)(fixed))
        also = [describe_cut(vocabulary, batches, student_batches, (size, student.num_parameters()), uncut)]
    if experiment.save_dtype != "float32":
        student.to(getattr(torch, experiment.save_dtype))
        parity["saved"] = difference(trained, torch_predict(student)(fixed))
    result = evaluate_model(experiment.task, torch_predict(student), student_batches)
    if quantize:
        quantize.detach_inputs()
    tokenizer, source = vocabulary.tokenizer if vocabulary else tokenizer, made_from(experiment)
    settle_tokenizer(tokenizer, source)
    with atomic_update_dir(folder) as draft:
        student.save_pretrained(draft / "student")
        tokenizer.save_pretrained(draft / "student")
        also += carry(source, draft / "student")
    exported = write_export(experiment, student, fixed, folder)
    if exported:
        parity["exported"] = difference(trained, exported.predict(fixed))
    notes = [f"{name}: {reason}" for name, reason in cuts.skipped.items()]
    if not cuts.stock:
        notes.append(
            "its form is no stock config's: the student loads after `import students`, not with plain transformers"
        )
    precision = quantize.precision if quantize else "float32"
    exact = not (quantize and quantize.activations)
    return Deployed(
        student, exported, result, parity, layers(student, quantize, matrix_sizes), notes, precision, exact, also
    )


def layers(student: PreTrainedModel, quantize: Quantize | None, matrix_sizes: dict[str, int]) -> list[dict]:
    """What became of each matrix that had so many parameters, for ``Deployed.layers``."""
    bits = {name: grid.rate for name, (grid, _) in quantize.on_grid(student).items()} if quantize else {}
    return [
        {
            "name": name,
            "sparsity": int((weight == 0).sum()) / max(weight.numel(), 1),
            "bits": bits.get(f"{name}.weight", 32) if weight.numel() else None,
            "parameters": weight.numel(),
            "parameters_before": matrix_sizes[name],
        }
        for name, weight in weight_matrices(student).items()
    ]


def write_export(
    experiment: Experiment, student: PreTrainedModel, batch: dict[str, Tensor], folder: Path
) -> Exported | None:
    """Writes the file that was asked for, if any, and opens it."""
    quantize = experiment.quantize
    if quantize and quantize.target == "packed":
        return write_packed(student, quantize, folder, experiment.task.head)
    if quantize or experiment.export:
        path = folder / "student.onnx"
        model = write_onnx(student, batch, path, quantize)
        return Exported(path, model, "onnx", "onnxruntime", departures(path, rounded_weights(student, quantize)))
    return None


def rounded_weights(student: PreTrainedModel, quantize: Quantize | None) -> Weights:
    """The folded weights that were rounded in training, by name, and the axis of their outputs."""
    on_grid = quantize.on_grid(student) if quantize else {}
    return {name: (student.get_parameter(name).detach(), axis) for name, (_, axis) in on_grid.items()}


def write_onnx(student: PreTrainedModel, batch: dict[str, Tensor], path: Path, quantize: Quantize | None) -> OnnxModel:
    """Writes the ONNX file, of int8 if it was trained so, and opens it."""
    with atomic_update_dir(path.parent) as draft:
        new = draft / path.name
        whole = new.with_suffix(".fp32.onnx") if quantize else new
        # Plain attention is a tenth faster than the exporter's SDPA once its products are int8.
        before = student.config._attn_implementation
        student.set_attn_implementation("eager")
        export_onnx(student, batch, whole)
        student.set_attn_implementation(before)
        if quantize:
            quantize_onnx(whole, new, rounded_weights(student, quantize), quantize.activations)
            whole.unlink()
    return OnnxModel(path)


def write_packed(student: PreTrainedModel, quantize: Quantize, folder: Path, head: type) -> Exported:
    """Writes the weights as codes of few bits and opens the file."""
    tensors = {name: parameter.detach() for name, parameter in student.named_parameters()}
    found = {name: OnGrid(*each) for name, each in quantize.on_grid(student).items()}
    # Of a tied weight one name is saved; what has no entries has no fit.
    quantized = {name: each for name, each in found.items() if name in tensors and tensors[name].numel()}
    inputs = Rounded(quantize.activations, quantize.rounded(student)) if quantize.activations else None
    path = folder / FILE
    with atomic_write(path) as draft:
        save_packed(tensors, quantized, draft, inputs)
    return Exported(path, torch_predict(load(folder, head)), "packed", "torch")


def difference(left: Tensor, right: Tensor) -> float:
    """The largest absolute difference."""
    return float((left - right).abs().max())
