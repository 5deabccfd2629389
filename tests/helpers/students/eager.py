"""Signals as transformers' eager models give them."""

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from students.families.families import depth, family
from students.recording.model_io import model_inputs
from students.recording.signals import Trace


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that attends eagerly."""
    eager = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager")
    eager.load_state_dict(model.state_dict())
    return eager.eval()


def builtin(model: PreTrainedModel, data: dict[str, Tensor]) -> tuple[dict, dict]:
    """Hidden states and attentions by site, as transformers itself gives them."""
    with torch.no_grad():
        out = twin(model)(**model_inputs(model, data), output_hidden_states=True, output_attentions=True)
    outputs = ({}, {})
    for stack in family(model.config).stacks:
        prefix = f"{stack}_" if model.config.is_encoder_decoder else ""
        outputs[0].update({(stack, i): state for i, state in enumerate(out[f"{prefix}hidden_states"])})
        outputs[1].update({(stack, i): state for i, state in enumerate(out[f"{prefix}attentions"], start=1)})
    if model.config.is_encoder_decoder:
        outputs[1].update({("cross", i): state for i, state in enumerate(out.cross_attentions, start=1)})
    return outputs


def final_norm(model: PreTrainedModel, stack: str) -> nn.Module:
    norms = {"gpt2": "ln_f", "llama": "norm", "t5": f"{stack}.final_layer_norm"}
    path = norms.get(model.config.model_type)
    return model.base_model.get_submodule(path) if path else nn.Identity()


def agree(model: PreTrainedModel, data: dict[str, Tensor], trace: Trace) -> None:
    hidden, attentions = builtin(model, data)
    assert trace.hidden.keys() == hidden.keys() and trace.attention.keys() == attentions.keys()
    for (stack, layer), state in trace.hidden.items():
        if layer == depth(model.config, stack):
            with torch.no_grad():
                state = final_norm(model, stack)(state)
        valid = trace.valid[stack]
        torch.testing.assert_close(state[valid], hidden[stack, layer][valid], atol=1e-5, rtol=1e-5)
    for (stack, layer), attention in trace.attention.items():
        rows = trace.valid["decoder" if stack == "cross" else stack]
        ours, theirs = attention.probabilities().transpose(1, 2), attentions[stack, layer].transpose(1, 2)
        torch.testing.assert_close(ours[rows], theirs[rows], atol=1e-5, rtol=0)
