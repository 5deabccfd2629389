"""A first config: half the blocks, started from the teacher, in the form that the target runs fastest."""

from __future__ import annotations

from typing import Literal, get_args

import yaml

from distill.command.starter.facts import StarterFacts

Target = Literal["cpu", "gpu", "browser"]
TARGETS: tuple[Target, ...] = get_args(Target)
_COMMENTS: dict[Target, str] = {
    "cpu": "int8 for ONNX Runtime",
    "browser": "int8 for transformers.js",
    "gpu": "saved in bfloat16 for a GPU",
}


def starter_config(model: str, data: str, facts: StarterFacts, target: Target) -> str:
    """Return the text of a config that runs.

    Args:
        model: the fine-tuned model, as it is to be named in the config.
        data: its data, likewise.
        facts: of both.
        target: where the student will run.
    """
    columns = "".join(f", {key}: {_flow(names)}" for key, names in facts.columns.items())
    if facts.labels:
        columns += f", labels: {_flow(facts.labels)}"
    batch_size = 8 if facts.task == "ranking" else 32  # queries, each with its passages
    sizes = f"max_length: {facts.max_length}, batch_size: {batch_size}"
    task = f"{{name: {facts.task}, data: {_flow(data)}{columns}, {sizes}}}"
    blocks = max(1, facts.layers // 2)
    lines = [
        f"# Made by `distill init`: a student with {blocks} of the {facts.layers} blocks of its teacher.",
        "# `distill check` reads all data and prints the plan, `distill train` runs it; docs/usage.md has the rest.",
        *["# The model does not name its outputs: labels is a guess, which the teacher's score confirms or refuses."]
        * bool(facts.labels),
        f"task: {task}",
        f"teacher: {_flow(model)}",
        f"student: {{kind: Transformer, layers: {blocks}}}  # fewer layers are smaller and faster",
        "losses:",
        *_losses(facts),
        *_target(target),
        "optimizer: {lr: 1e-4}",
        f"trainer: {{{_trainer(facts, target)}}}",
    ]
    return "\n".join(lines) + "\n"


def _losses(facts: StarterFacts) -> list[str]:
    hidden = "  hidden: {kind: HiddenMSE, layers: uniform, stop: 60%}  # imitate the teacher's blocks first"
    if facts.task == "embedding":
        return [hidden, "  cosine: {kind: VectorCosine}", "  similarity: {kind: SimilarityKL}"]
    if facts.task == "ranking":
        return [hidden, "  margin: {kind: MarginMSE}"]
    if facts.task == "regression":
        return [hidden, "  logits: {kind: LogitsMSE}"]
    return [hidden, "  logits: {kind: Logits, temperature: 2.0}"]


def _target(target: Target) -> list[str]:
    comment = f"  # {_COMMENTS[target]}"
    if target == "gpu":
        return [f"save_dtype: bfloat16{comment}"]
    quantize = f"quantize: {{weights: 8, activations: 8, target: onnxruntime, start: 80%}}{comment}"
    vocabulary = "vocabulary: seen  # tokens that no training text has are removed"
    return [quantize, vocabulary] if target == "browser" else [quantize]


def _trainer(facts: StarterFacts, target: Target) -> str:
    """Return the trainer's arguments: some 1000 steps of small data, one epoch of large data."""
    epochs = min(10, max(1, round(32_000 / max(facts.rows, 1))))
    precision = ", precision: bf16-mixed" if target == "gpu" else ""
    return f"max_epochs: {epochs}, accelerator: auto{precision}"


def _flow(value: str | list[str] | dict[str, str]) -> str:
    """Return a value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
