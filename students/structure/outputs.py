"""The outputs of a trained head in another order, with their names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from students.recording.model_io import output_logits

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]


def label_names(config: PretrainedConfig) -> dict[int, str] | None:
    """Return the names of a config's labels by the index of their output; None if it has none."""
    return None if config.id2label is None else {int(index): name for index, name in config.id2label.items()}


def head_names(model: PreTrainedModel) -> list[str]:
    """Return the names of a model's outputs in their order."""
    return [model.config.id2label[i] for i in range(model.config.num_labels)]


def check_problem_type(config: PretrainedConfig, problem_type: str | None) -> None:
    """Raise ValueError if a trained head is multi-label, and the task is single-label, or the other way round."""
    multi_label, single_label = "multi_label_classification", "single_label_classification"
    if config.problem_type == multi_label and problem_type != multi_label:
        raise ValueError(f"its outputs are labels of which several may hold ({multi_label}), and the task wants one")
    if config.problem_type == single_label and problem_type == multi_label:
        raise ValueError(f"its outputs are classes of which one holds ({single_label}), and a row may have several")


@torch.no_grad()
def reorder_outputs(model: PreTrainedModel, order: list[int]) -> None:
    """Move output ``order[i]`` to place i, in place, with its name; the logits of a few tokens are compared.

    Raises:
        ValueError: if no layer was found whose rows are the outputs.
    """
    if order == list(range(len(order))):
        return
    logits = short_logits(model)
    index = torch.tensor(order)
    layer = _output_layer(model)
    for parameter in layer.parameters() if layer is not None else ():
        if parameter.shape[0] == len(order):
            parameter.copy_(parameter[index.to(parameter.device)])
    rtol = max(1e-4, 2 * torch.finfo(model.dtype).eps)
    if not torch.allclose(short_logits(model), logits[..., index], rtol=rtol, atol=rtol / 10):
        raise ValueError("its outputs stand in another order than the run's, and cannot be put in it")
    names = head_names(model)
    model.config.id2label = {i: names[output] for i, output in enumerate(order)}
    model.config.label2id = {name: i for i, name in model.config.id2label.items()}


def _output_layer(model: PreTrainedModel) -> nn.Module | None:
    """Return the last layer outside the base model that has a row for each output."""
    base = set() if model.base_model is model else set(model.base_model.modules())
    layers = [
        module
        for module in model.modules()
        if module not in base
        and getattr(getattr(module, "weight", None), "ndim", 0) == 2
        and module.weight.shape[0] == model.config.num_labels
    ]
    return layers[-1] if layers else None


def short_logits(model: PreTrainedModel) -> torch.Tensor:
    """Return the logits of three tokens, float32 on the CPU, in eval mode."""
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    eos = getattr(model.config, "eos_token_id", None)
    if isinstance(eos, int):  # some heads pool at the end of the text
        ids[:, -1] = eos
    mode, inputs = model.training, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        inputs["decoder_input_ids"] = ids
    model.eval()
    logits = output_logits(model(**inputs)).float().cpu()
    model.train(mode)
    return logits
