"""Find the experts of a model of any family: their parameters, their router, and the numbers that follow theirs."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from students.families.derive.probe import MAX_PARAMETERS, SHRINKS, shrink
from students.families.derive.stacks import FEW, build_base, depth_keys, with_depths
from students.families.parts import ExpertParts, LayerStack
from students.families.routers import HiddenExperts

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_EXPERTS, _PER_TOKEN, _TOKENS = 5, 2, 16
_KEPT = ([0, 2, 4], [3])
"""The experts that are left where it is tried whether to hide the others is to cut them; once fewer than a token gets.
"""


def with_experts(config: PretrainedConfig, stacks: dict[str, LayerStack]) -> dict[str, LayerStack]:
    """Return the stacks with what is found of their experts.

    Parameters with an axis that grows with a number in the config are those of experts and router. The router's are
    those of the module that returns a number for each expert; the rest must be in one module. Their facts are kept if,
    on a tiny random model, to hide experts from the router gives the outputs of a model without them.

    Args:
        config: of a model of any size.
        stacks: by name, without experts.
    """
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for key in _number_keys(config, "expert"):
            try:
                found = {name: _experts(config, stack, key) for name, stack in stacks.items()}
            except Exception:  # the code of any model may raise anything here; the rest of its facts stay
                continue
            if any(found.values()):
                return {name: replace(stack, experts=found[name]) for name, stack in stacks.items()}
    return stacks


def _number_keys(config: PretrainedConfig, part: str) -> list[str]:
    return [key for key, value in config.to_dict().items() if part in key and type(value) is int and value > 0]


def _few(config: PretrainedConfig, **numbers: int) -> PretrainedConfig:
    """Return the config of a model of few blocks and experts."""
    few = with_depths(config, dict.fromkeys(depth_keys(config), FEW))
    for key, number in (dict.fromkeys(_number_keys(config, "per_tok"), _PER_TOKEN) | numbers).items():
        setattr(few, key, number)
    return few


class _Growth(NamedTuple):
    """What grows by one in the blocks of a stack, if a number in the config does."""

    parameters: tuple[tuple[str, str, int], ...]
    attributes: tuple[tuple[str, str], ...]


def _growth(before: nn.Module, after: nn.Module, number: int) -> _Growth:
    parameters, attributes, grown = [], [], dict(after.named_modules())
    for path, module in before.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            shape, wider = parameter.shape, getattr(grown[path], name).shape
            axes = [axis for axis in range(len(shape)) if shape[axis] != wider[axis]]
            if axes and [(shape[axis], wider[axis]) for axis in axes] != [(number, number + 1)]:
                raise ValueError(f"{path}.{name} grows from {shape} to {wider}")
            parameters += [(path, name, axis) for axis in axes]
        for name, value in vars(module).items():
            if type(value) is int and (value, vars(grown[path]).get(name)) == (number, number + 1):
                attributes.append((path, name))
    return _Growth(tuple(parameters), tuple(attributes))


def _experts(config: PretrainedConfig, stack: LayerStack, key: str) -> ExpertParts | None:
    """Return the experts of a stack, whose number the config holds under a key; None if it is not that number."""

    def blocks(**numbers: int) -> list[nn.Module]:
        return [*build_base(_few(config, **numbers), "meta").get_submodule(stack.blocks)]

    few, more = blocks(**{key: _EXPERTS}), blocks(**{key: _EXPERTS + 1})
    growths = [_growth(*pair, _EXPERTS) for pair in zip(few, more, strict=True)]
    found = {growth for growth in growths if growth.parameters}
    if len(found) != 1:
        return None
    (growth,) = found
    sparse = growths.index(growth)
    limits: dict[str, tuple[tuple[str, str], ...]] = {}
    for per_token in _number_keys(config, "per_tok"):
        wider = blocks(**{key: _EXPERTS, per_token: _PER_TOKEN + 1})[sparse]
        limits[per_token] = _growth(few[sparse], wider, _PER_TOKEN).attributes
    limits = {per_token: attributes for per_token, attributes in limits.items() if attributes}
    if len(limits) > 1:
        return None
    model, text = _tiny(_few(config, **{key: _EXPERTS}))
    block = model.get_submodule(stack.blocks)[sparse]
    for per_token, attributes in (limits or {"": ()}).items():
        parts = _roles(model, text, block, growth, attributes, (key, per_token))
        if parts and all(_is_proved(model, text, stack.blocks, parts, kept) for kept in _KEPT):
            return parts
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
            _run(model, text)
        except Exception as error:  # sizes that do not go together: the next ones may
            errors.append(error)
        else:
            return model, text
    raise errors[0]


@torch.no_grad()
def _run(model: PreTrainedModel, text: dict[str, Tensor]) -> Tensor:
    return model(**text).last_hidden_state


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
    _run(model, text)
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
        ExpertParts(router, index, experts, tuple(parameters), len(outgoing), growth.attributes, limits, *keys)
        if outgoing
        else None
    )


def _logits(output: Any) -> int | None:
    """Return the index of a tensor with a number for each expert, -1 if it is alone; None if there is none."""
    for index, part in enumerate(output if isinstance(output, tuple) else [output]):
        if isinstance(part, Tensor) and part.is_floating_point() and part.shape[-1] == _EXPERTS:
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


def _is_proved(
    model: PreTrainedModel, text: dict[str, Tensor], blocks: str, parts: ExpertParts, kept: list[int]
) -> bool:
    """Return whether to hide all experts but the kept ones gives the outputs of a model without them."""
    shown, small, hooks = torch.zeros(_EXPERTS, dtype=torch.bool), copy.deepcopy(model), []
    shown[kept] = True
    for block, reduced in zip(model.get_submodule(blocks), small.get_submodule(blocks), strict=True):
        if parts.router not in dict(block.named_modules()):
            continue
        mode = HiddenExperts(shown)
        router = block.get_submodule(parts.router)
        hooks.append(router.register_forward_pre_hook(lambda *_, mode=mode: mode.__enter__() and None))
        hooks.append(router.register_forward_hook(lambda *_, mode=mode: mode.__exit__(None, None, None)))
        for path, name, axis in parts.parameters:
            module = reduced.get_submodule(path)
            setattr(module, name, nn.Parameter(getattr(module, name).detach().index_select(axis, torch.tensor(kept))))
        for path, name in parts.counters:
            setattr(reduced.get_submodule(path), name, len(kept))
        for path, name in parts.limits:
            setattr(reduced.get_submodule(path), name, min(len(kept), _PER_TOKEN))
    before, hidden = None, _run(model, text)
    for hook in hooks:
        hook.remove()
    before = _run(model, text)
    return torch.allclose(hidden, _run(small, text), atol=1e-5) and not torch.allclose(hidden, before, atol=1e-5)
