"""What a model takes of a batch, and what is read of its output."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.families.families import family

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
"""What a model may be given of a batch. Labels are not among it: the loss is ours; ``task`` is for several models."""


def model_inputs(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a batch that the model takes."""
    takes = inspect.signature(model.forward).parameters
    return {name: batch[name] for name in MODEL_INPUTS if name in batch and name in takes}


def output_logits(output: ModelOutput) -> Tensor | None:
    """The logits of a head: [B, C], or [B, S, C] of one that speaks at each token; begin and end of an answer are two
    outputs of each token, [B, S, 2].
    """
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1)
    return output.get("logits")


def valid_positions(config: PretrainedConfig, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """By stack, True at tokens and False at padding, boolean, [B, S]; all True if the batch has no mask."""
    stacks = family(config).stacks
    found = {}
    for stack in stacks:
        names = ("attention_mask", "input_ids", "inputs_embeds")
        if stack == "decoder" and len(stacks) > 1:
            # given no inputs, a decoder (T5's, for classification) takes the encoder's, shifted by one
            names = ("decoder_attention_mask", "decoder_input_ids", "decoder_inputs_embeds", *names[1:])
        name = next(name for name in names if name in batch)
        if name == names[0]:
            found[stack] = batch[name].bool()
        else:
            found[stack] = torch.ones(batch[name].shape[:2], dtype=torch.bool, device=batch[name].device)
    return found
