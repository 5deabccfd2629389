"""Export: fold, cut and save the trained student, and write the configured file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.evaluation.deployed import DeployedStudent, ExportedFile
from distill.evaluation.measure import evaluate_model, torch_predict
from distill.experiment.experiment import Experiment
from distill.export.carry import copy_model_card, reset_tokenizer, source_model
from distill.export.vocabulary import describe_cut
from distill.run_dir.files import atomic_update_dir, atomic_write
from distill.training.module import Distillation
from prune_schedules.structure.cut import cut
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_check import int8_mismatches
from quant_aware.export.onnx_int8 import Weights
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.export.packed import FILE, QuantizedInputs, QuantizedWeight, load, save_packed
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
) -> DeployedStudent:
    """Write ``student/`` and, if configured, ``student.onnx`` or ``student.packed.safetensors``.

    Args:
        experiment: the config of the run.
        module: the module after ``fit``, with the best state.
        folder: the run folder.
        tokenizer: the tokenizer of training; saved with the student if its vocabulary is not cut.
        batches: validation batches in the tokens of training.
        student_batches: validation batches in the deployed student's tokens; the first is used to compare the student
            after each step of the export.
        matrix_sizes: the parameters of each matrix before training, which may have cut units already.
        vocabulary: the smaller vocabulary of the deployed student, if any.
    """
    module.cpu().float()  # whatever precision it was trained in
    student, quantize, fixed = module.student, experiment.quantize, student_batches[0]
    # Every kept token has an id in the old vocabulary too, so both students can read the same batch.
    fixed_before = fixed | {"input_ids": vocabulary.keep[fixed["input_ids"]]} if vocabulary else fixed
    trained = torch_predict(student)(fixed_before)
    module.recorder.close()
    if quantize:
        quantize.quantize_full_embeddings()
    fold(student)
    parity = {"folded": max_abs_difference(trained, torch_predict(student)(fixed_before))}
    cuts = cut(student)
    parity["cut"] = max_abs_difference(trained, torch_predict(student)(fixed_before))
    report_notes = []
    if vocabulary:
        metric, size = experiment.task.main_metric, student.num_parameters()
        uncut = f"{metric} was {evaluate_model(experiment.task, torch_predict(student), batches).metrics[metric]:.4f}"
        cut_vocabulary(student, vocabulary.keep)
        parity["vocabulary"] = max_abs_difference(trained, torch_predict(student)(fixed))
        report_notes = [describe_cut(vocabulary, batches, student_batches, (size, student.num_parameters()), uncut)]
    if experiment.save_dtype != "float32":
        student.to(getattr(torch, experiment.save_dtype))
        parity["saved"] = max_abs_difference(trained, torch_predict(student)(fixed))
    result = evaluate_model(experiment.task, torch_predict(student), student_batches, resample=True)
    if quantize:
        quantize.remove_input_hooks()
    tokenizer, source = vocabulary.tokenizer if vocabulary else tokenizer, source_model(experiment)
    reset_tokenizer(tokenizer, getattr(experiment.student, "tokenizer", None) or source)
    with atomic_update_dir(folder) as draft:
        student.save_pretrained(draft / "student")
        tokenizer.save_pretrained(draft / "student")
        experiment.task.finish_folder(student, draft / "student")
        report_notes += copy_model_card(source, draft / "student")
    exported = write_export(experiment, student, fixed, folder)
    if exported:
        parity["exported"] = max_abs_difference(trained, exported.predict(fixed))
    notes = [f"{name}: {reason}" for name, reason in cuts.skipped.items()]
    if not cuts.is_stock:
        notes.append(
            "the student has a form that no config of transformers describes: it loads after `import students`"
        )
    precision = quantize.precision if quantize else "float32"
    exact = not (quantize and quantize.activations)
    facts = layer_facts(student, quantize, matrix_sizes)
    return DeployedStudent(
        student, exported, result, parity, facts, notes, precision, exact, report_notes, cuts.is_stock
    )


def layer_facts(student: PreTrainedModel, quantize: Quantize | None, matrix_sizes: dict[str, int]) -> list[dict]:
    """Return ``DeployedStudent.layers``: sparsity, bits and size of each matrix."""
    weights = quantize.quantized_weights(student) if quantize else {}
    bits = {name: quantizer.bits_per_weight for name, (quantizer, _) in weights.items()}
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
) -> ExportedFile | None:
    """Write the configured file, if any, and open it."""
    quantize = experiment.quantize
    if quantize and quantize.target == "packed":
        return write_packed(student, quantize, folder, experiment.task.head)
    if quantize or experiment.export:
        path = folder / "student.onnx"
        model = write_onnx(student, batch, path, quantize)
        return ExportedFile(
            path, model, "onnx", "onnxruntime", int8_mismatches(path, rounded_weights(student, quantize))
        )
    return None


def rounded_weights(student: PreTrainedModel, quantize: Quantize | None) -> Weights:
    """Return by name the folded weights that were quantized in training, and the axis of their outputs."""
    weights = quantize.quantized_weights(student) if quantize else {}
    return {name: (student.get_parameter(name).detach(), axis) for name, (_, axis) in weights.items()}


def write_onnx(student: PreTrainedModel, batch: dict[str, Tensor], path: Path, quantize: Quantize | None) -> OnnxModel:
    """Write the ONNX file, in int8 if the student is quantized, and open it."""
    with atomic_update_dir(path.parent) as draft:
        final = draft / path.name
        float_file = final.with_suffix(".fp32.onnx") if quantize else final
        export_onnx(student, batch, float_file)
        if quantize:
            quantize_onnx(float_file, final, rounded_weights(student, quantize), quantize.activations)
            float_file.unlink()
    return OnnxModel(path)


def write_packed(student: PreTrainedModel, quantize: Quantize, folder: Path, head: type) -> ExportedFile:
    """Write the weights as packed low-bit codes, and open the file."""
    tensors = {name: parameter.detach() for name, parameter in student.named_parameters()}
    weights = {name: QuantizedWeight(*weight) for name, weight in quantize.quantized_weights(student).items()}
    # A tied weight is saved under one name; an empty weight has no codes.
    quantized = {name: weight for name, weight in weights.items() if name in tensors and tensors[name].numel()}
    inputs = QuantizedInputs(quantize.activations, quantize.quantized_inputs(student)) if quantize.activations else None
    path = folder / FILE
    with atomic_write(path) as draft:
        save_packed(tensors, quantized, draft, inputs)
    return ExportedFile(path, torch_predict(load(folder, head)), "packed", "torch")


def max_abs_difference(left: Tensor, right: Tensor) -> float:
    """Return the largest absolute difference."""
    return float((left - right).abs().max())
