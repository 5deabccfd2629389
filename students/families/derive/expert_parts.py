"""Find the experts of a model of any family: their parameters, their router, and the numbers that follow theirs."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from students.families.derive.attention_sites import MOST, depth_of_all_kinds
from students.families.derive.expert_proof import EXPERTS, PER_TOKEN, fewest_experts, run
from students.families.derive.probe import MAX_PARAMETERS, SHRINKS, shrink
from students.families.derive.stacks import FEW, build_base, depth_keys, with_depths
from students.families.parts import ExpertParts, LayerStack

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_TOKENS = 16


def with_experts(config: PretrainedConfig, stacks: dict[str, LayerStack]) -> dict[str, LayerStack]:
    """Return the stacks with what is found of their experts.

    Parameters and buffers with an axis that grows with a number in the config are those of experts and router. The
    router's are those of the module that returns a number for each expert; the rest must be in one module. Their facts
    are kept if, on a tiny random model, to hide experts from the router gives the outputs of a model without them.
    If the first blocks have none (DeepSeek, GLM-4), models of more blocks are tried.

    Args:
        config: of a model of any size.
        stacks: by name, without experts.
    """
    keys = _number_keys(config, "expert") if stacks else []
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(0)
        for key, depth in product(keys, _depths(config, stacks) if keys else ()):
            try:
                found = {name: _experts(config, stack, key, depth) for name, stack in stacks.items()}
            except Exception:  # the code of any model may raise anything here; the rest of its facts stay
                continue
            if any(found.values()):
                return {name: replace(stack, experts=found[name]) for name, stack in stacks.items()}
    return stacks


def _depths(config: PretrainedConfig, stacks: dict[str, LayerStack]) -> list[int]:
    """Return the numbers of blocks that are tried: few, and so many that there is each kind of them."""
    whole = build_base(config, "meta")
    depth = max(depth_of_all_kinds([*whole.get_submodule(stack.blocks)]) for stack in stacks.values())
    return [FEW, depth] if FEW < depth <= MOST else [FEW]


def _number_keys(config: PretrainedConfig, part: str) -> list[str]:
    return [key for key, value in config.to_dict().items() if part in key and type(value) is int and value > 0]


def _few(config: PretrainedConfig, depth: int, **numbers: int) -> PretrainedConfig:
    """Return the config of a model of few blocks and experts."""
    few = with_depths(config, dict.fromkeys(depth_keys(config), depth))
    for key, number in (dict.fromkeys(_number_keys(config, "per_tok"), PER_TOKEN) | numbers).items():
        setattr(few, key, number)
    return few


class _Growth(NamedTuple):
    """What grows by one in the blocks of a stack, if a number in the config does."""

    parameters: tuple[tuple[str, str, int], ...]
    buffers: tuple[tuple[str, str, int], ...]
    attributes: tuple[tuple[str, str], ...]


def _growth(before: nn.Module, after: nn.Module, number: int) -> _Growth:
    parameters, buffers, attributes, grown = [], [], [], dict(after.named_modules())
    for path, module in before.named_modules():
        for tensors, found in (
            (module.named_parameters(recurse=False), parameters),
            (module.named_buffers(recurse=False), buffers),
        ):
            for name, tensor in tensors:
                shape, wider = tensor.shape, getattr(grown[path], name).shape
                axes = [axis for axis in range(len(shape)) if shape[axis] != wider[axis]]
                if axes and [(shape[axis], wider[axis]) for axis in axes] != [(number, number + 1)]:
                    raise ValueError(f"{path}.{name} grows from {shape} to {wider}")
                found += [(path, name, axis) for axis in axes]
        for name, value in vars(module).items():
            if type(value) is int and (value, vars(grown[path]).get(name)) == (number, number + 1):
                attributes.append((path, name))
    return _Growth(tuple(parameters), tuple(buffers), tuple(attributes))


def _experts(config: PretrainedConfig, stack: LayerStack, key: str, depth: int) -> ExpertParts | None:
    """Return the experts of a stack, whose number the config holds under a key; None if it is not that number."""

    def blocks(**numbers: int) -> list[nn.Module]:
        return [*build_base(_few(config, depth, **numbers), "meta").get_submodule(stack.blocks)]

    few, more = blocks(**{key: EXPERTS}), blocks(**{key: EXPERTS + 1})
    growths = [_growth(*pair, EXPERTS) for pair in zip(few, more, strict=True)]
    found = {growth for growth in growths if growth.parameters}
    if len(found) != 1:
        return None
    (growth,) = found
    sparse = growths.index(growth)
    limits: dict[str, tuple[tuple[str, str], ...]] = {}
    for per_token in _number_keys(config, "per_tok"):
        wider = blocks(**{key: EXPERTS, per_token: PER_TOKEN + 1})[sparse]
        limits[per_token] = _growth(few[sparse], wider, PER_TOKEN).attributes
    limits = {per_token: attributes for per_token, attributes in limits.items() if attributes}
    if len(limits) > 1:
        return None
    model, text = _tiny(_few(config, depth, **{key: EXPERTS}))
    block = model.get_submodule(stack.blocks)[sparse]
    for per_token, attributes in (limits or {"": ()}).items():
        parts = _roles(model, text, block, growth, attributes, (key, per_token))
        if parts and (fewest := fewest_experts(model, text, stack.blocks, parts)):
            return replace(parts, fewest=fewest)
    return None


def _tiny(config: PretrainedConfig) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """Return the first tiny model that runs, with random weights, and a text for it."""
    errors = []
    for smallest, divisor in SHRINKS:
        small = copy.deepcopy(config)
        shrink(small, smallest, divisor)
        try:
            if sum(weight.numel() for weight in build_base(small, "meta").parameters()) > MAX_PARAMETERS:
                raise ValueError("too large to be run")
            model = build_base(small, "cpu").float()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            text = {"input_ids": torch.arange(_TOKENS)[None] + model.get_input_embeddings().num_embeddings // 2}
            if model.config.is_encoder_decoder:
                text["decoder_input_ids"] = text["input_ids"]
            if model._can_set_experts_implementation():
                model.set_experts_implementation("eager")
            run(model, text)
        except Exception as error:  # sizes that do not go together: the next ones may
            errors.append(error)
        else:
            return model, text
    raise errors[0]


def _roles(
    model: PreTrainedModel,
    text: dict[str, Tensor],
    block: nn.Module,
    growth: _Growth,
    limits: tuple[tuple[str, str], ...],
    keys: tuple[str, str],
) -> ExpertParts | None:
    """Return which module is the router, and which of the parameters give the output of an expert."""
    calls: dict[str, tuple[tuple, dict, Any]] = {}
    modules = {path: block.get_submodule(path) for path in dict.fromkeys(path for path, *_ in growth.parameters)}
    hooks = [
        module.register_forward_hook(
            lambda _, args, kwargs, output, path=path: calls.update({path: (args, kwargs, output)}), with_kwargs=True
        )
        for path, module in modules.items()
    ]
    run(model, text)
    for hook in hooks:
        hook.remove()
    logits = {path: _logits(output) for path, (_, _, output) in calls.items()}
    routers = [path for path, index in logits.items() if index is not None]
    others = [path for path in modules if path not in routers]
    if len(routers) != 1 or len(others) != 1 or calls.keys() != modules.keys():
        return None
    (router,), (experts,) = routers, others
    args, kwargs, _ = calls[experts]
    outgoing = [name for path, name, _ in growth.parameters if path == experts]
    outgoing = [name for name in outgoing if _is_linear_in(modules[experts], name, args, kwargs)]
    parameters = sorted(growth.parameters, key=lambda part: (part[0] == experts, part[1] in outgoing))
    index = None if logits[router] == -1 else logits[router]
    return (
        ExpertParts(
            router, index, experts, tuple(parameters), growth.buffers, len(outgoing), growth.attributes, limits, *keys
        )
        if outgoing
        else None
    )


def _logits(output: Any) -> int | None:
    """Return the index of a tensor with a number for each expert, -1 if it is alone; None if there is none."""
    for index, part in enumerate(output if isinstance(output, tuple) else [output]):
        if isinstance(part, Tensor) and part.is_floating_point() and part.shape[-1] == EXPERTS:
            return index if isinstance(output, tuple) else -1
    return None


@torch.no_grad()
def _is_linear_in(module: nn.Module, name: str, args: tuple, kwargs: dict) -> bool:
    """Return whether the output of a module is linear in one of its parameters, apart from a constant."""
    parameter, outputs = getattr(module, name), []
    weight = parameter.clone()
    for factor in (1.0, -1.0, 0.0):
        parameter.copy_(factor * weight)
        outputs.append(module(*args, **kwargs))
    parameter.copy_(weight)
    return torch.allclose(outputs[0] + outputs[1], 2 * outputs[2], atol=1e-6) and not torch.equal(*outputs[:2])
