"""The inputs of a model from a batch, and the logits of its output."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from students.families.families import family
from students.recording.batch import SEPARATOR

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.utils import ModelOutput

MODEL_INPUTS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "inputs_embeds",
    "decoder_input_ids",
    "decoder_attention_mask",
    "decoder_inputs_embeds",
    "task",
)
"""The keys of a batch that a model may take. Labels are not among them: models compute no loss here."""


def model_inputs(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the part of a batch that the model takes.

    A model of several teachers takes ``own_tokens``: the inputs of those with a tokenizer of their own, by their names
    in the batch (``own_tokens.py``).
    """
    parameters = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {name: batch[name] for name in MODEL_INPUTS if name in batch and name in parameters}
    if "own_tokens" in parameters:
        inputs["own_tokens"] = {name: values for name, values in batch.items() if SEPARATOR in name}
    return inputs


@contextmanager
def plain_kernels(model: nn.Module) -> Iterator[None]:
    """Compute attention and experts by plain products inside the block, for exporters and counters of FLOPs.

    Args:
        model: a model of transformers, or several in one module.
    """
    from transformers import PreTrainedModel  # not above: a config is read without transformers

    models = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    before = [(part.config._attn_implementation, part.config._experts_implementation) for part in models]
    for part in models:
        _set_kernels(part, "eager", "batched_mm")
    try:
        yield
    finally:
        for part, kernels in zip(models, before, strict=True):
            _set_kernels(part, *kernels)


def _set_kernels(model: PreTrainedModel, attention: str, experts: str | None) -> None:
    model.set_attn_implementation(attention)
    if model._can_set_experts_implementation():
        model.set_experts_implementation(experts)


def output_logits(output: ModelOutput) -> Tensor | None:
    """Return the logits of a head: [B, C], [B, S, C] of a head on tokens, or start and end of an answer [B, S, 2]."""
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1)
    return output.get("logits")


def valid_positions(config: PretrainedConfig, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return by stack a boolean mask [B, S], True at tokens and False at padding; all True if the batch has no mask."""
    stacks = family(config).stacks
    masks = {}
    for stack in stacks:
        names = ("attention_mask", "input_ids", "inputs_embeds")
        if stack == "decoder" and len(stacks) > 1:
            # without inputs, a decoder (T5's, for classification) takes the encoder's, shifted by one
            names = ("decoder_attention_mask", "decoder_input_ids", "decoder_inputs_embeds", *names[1:])
        name = next(name for name in names if name in batch)
        if name == names[0]:
            masks[stack] = batch[name].bool()
        else:
            masks[stack] = torch.ones(batch[name].shape[:2], dtype=torch.bool, device=batch[name].device)
    return masks
