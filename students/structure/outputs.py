"""The outputs of a trained head in another order: what a row says goes with its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from students.recording.model_io import output_logits

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def head_names(model: PreTrainedModel) -> list[str]:
    """The names of a model's outputs in their order."""
    return [model.config.id2label[i] for i in range(model.config.num_labels)]


def check_problem_type(config: PretrainedConfig, problem: str | None) -> None:
    """Raise ValueError if trained outputs are labels of which several may hold, and the task wants one."""
    several = "multi_label_classification"
    if config.problem_type == several and problem != several:
        raise ValueError(f"its outputs are labels of which several may hold ({several}), and the task wants one")


@torch.no_grad()
def reorder_outputs(model: PreTrainedModel, order: list[int]) -> None:
    """Put output ``order[i]`` at place i, in place, with its name; logits of a few tokens prove it.

    Raises:
        ValueError: if no layer was found whose rows are the outputs.
    """
    if order == list(range(len(order))):
        return
    before = _probe(model)
    index = torch.tensor(order)
    layer = _output_layer(model)
    for parameter in layer.parameters() if layer is not None else ():
        if parameter.shape[0] == len(order):
            parameter.copy_(parameter[index.to(parameter.device)])
    rtol = max(1e-4, 2 * torch.finfo(model.dtype).eps)
    if not torch.allclose(_probe(model), before[..., index], rtol=rtol, atol=rtol / 10):
        raise ValueError("its outputs stand in another order than the run's, and cannot be put in it")
    names = head_names(model)
    model.config.id2label = {i: names[output] for i, output in enumerate(order)}
    model.config.label2id = {name: i for i, name in model.config.id2label.items()}


def _output_layer(model: PreTrainedModel) -> nn.Module | None:
    """The last layer outside the base model that has a row for each output."""
    base = set() if model.base_model is model else set(model.base_model.modules())
    layers = [
        module
        for module in model.modules()
        if module not in base
        and getattr(getattr(module, "weight", None), "ndim", 0) == 2
        and module.weight.shape[0] == model.config.num_labels
    ]
    return layers[-1] if layers else None


def _probe(model: PreTrainedModel) -> torch.Tensor:
    """The logits of three tokens, in eval mode."""
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    end = getattr(model.config, "eos_token_id", None)
    if isinstance(end, int):  # where a head looks for the end of the text
        ids[:, -1] = end
    mode = model.training
    model.eval()
    logits = output_logits(model(input_ids=ids, attention_mask=torch.ones_like(ids))).float().cpu()
    model.train(mode)
    return logits
