"""Run a tiny random model of a family, and look at what its blocks and its attention do."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from students.families.derive.stacks import FEW, build_base, depth_keys, with_depths
from students.families.parts import AttentionSite, LayerStack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_PARAMETERS = 60_000_000
"""The largest model that is run."""
SHRINKS = ((256, 16), (64, 8), (256, 8), (256, 4), (256, 1))
"""What is tried in turn: sizes from the first number on are divided by the second."""
_LARGE, LARGE_SHRINK = 2048, (64, 32)
"""The hidden size from which another one is tried first."""
_TOKENS, _SHORT = 8, 5
NAME = "probe"
"""The name of the attention that only looks at what it is called with."""


class Pass:
    """One forward pass of a tiny model: what went into its blocks and came out, and the calls of its attention."""

    running: Pass | None = None

    def __init__(self, with_gradients: bool = False) -> None:
        self.with_gradients = with_gradients
        self.entered: list[nn.Module] = []
        self.inputs: dict[nn.Module, Any] = {}
        self.outputs: dict[nn.Module, Any] = {}
        self.calls: list[tuple[nn.Module, Tensor]] = []
        """Each module that called the attention, and the weights that follow from the inputs it gave."""

    def run(self, model: PreTrainedModel, modules: list[nn.Module], ids: Tensor, **arguments: object) -> object:
        """Run the model, and record."""
        hooks = [module.register_forward_pre_hook(self._enter, with_kwargs=True) for module in modules]
        hooks += [module.register_forward_hook(self._leave) for module in modules]
        arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | arguments
        if model.config.is_encoder_decoder:
            arguments["decoder_input_ids"] = ids[:, :_SHORT]
        if "use_cache" in inspect.signature(model.forward).parameters:
            arguments["use_cache"] = False
        Pass.running = self
        try:
            with torch.set_grad_enabled(self.with_gradients):
                return model(**arguments)
        finally:
            Pass.running = None
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.entered.append(module)
        self.inputs[module] = args[0] if args else kwargs.get("hidden_states")

    def _leave(self, module: nn.Module, args: tuple, output: object) -> None:
        self.outputs[module] = output[0] if isinstance(output, tuple | list) else output


def _look(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Note the weights that SDPA will compute from these inputs, and call it."""
    if Pass.running is not None:
        causal = getattr(module, "is_causal", None) if kwargs.get("is_causal") is None else kwargs["is_causal"]
        # a mask that is added to the scores is not one that can be recorded
        is_known = causal is not None and (attention_mask is None or attention_mask.dtype == torch.bool)
        scale = query.shape[-1] ** -0.5 if kwargs.get("scaling") is None else kwargs["scaling"]
        scores = query @ repeat_kv(key, query.shape[1] // key.shape[1]).mT * scale
        scores += 0 if kwargs.get("position_bias") is None else kwargs["position_bias"]
        visible = attention_mask
        if causal and visible is None:  # a mask of token pairs is causal already
            visible = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if is_known and visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        Pass.running.calls.append((module, scores.softmax(-1) if is_known else query[:0]))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(NAME, _look)
AttentionMaskInterface.register(NAME, sdpa_mask)


class Probed(NamedTuple):
    """What a tiny random model has shown."""

    stacks: dict[str, LayerStack]
    """By name those whose blocks hand hidden states on, with their attention."""
    model: PreTrainedModel


def probe(config: PretrainedConfig, stacks: dict[str, str], depth: int = 0) -> Probed:
    """Find the stacks whose blocks hand hidden states on, and what their attention is.

    Args:
        config: of a model of any size; the one that runs is tiny.
        stacks: by path, the key of the config that holds the depth.
        depth: number of blocks of each stack; by default so few that all sizes with "layer" in their name are as small.

    Raises:
        Exception: whatever the model's own code raises, if it runs in no size that is tried.
    """
    model, first = _first_that_runs(config, stacks, depth)
    blocks = {path: [*model.get_submodule(path)] for path in stacks}
    if not all(_hands_on(first, stack_blocks, model.config.hidden_size) for stack_blocks in blocks.values()):
        return Probed({}, model)
    order = sorted(stacks, key=lambda path: first.entered.index(blocks[path][0]))
    if len(order) != 1 + model.config.is_encoder_decoder:
        return Probed({}, model)
    names = ["encoder", "decoder"]
    if len(order) == 1 and _is_causal(model, blocks[order[0]]):
        names = ["decoder"]
    is_exact, stacks_by_name = _is_exact(model, first), {}
    for name, path in zip(names, order, strict=False):
        kinds = ("self", "cross") if name == "decoder" and len(order) == 2 else ("self",)
        attention = _attention_sites(blocks[path], first, kinds) if is_exact else {}
        sequence_first = first.outputs[blocks[path][0]].shape[0] != 1
        stacks_by_name[name] = LayerStack(path, attention, None, stacks[path], sequence_first=sequence_first)
    return Probed(stacks_by_name, model)


def _first_that_runs(config: PretrainedConfig, stacks: dict[str, str], depth: int) -> tuple[PreTrainedModel, Pass]:
    """Return the first tiny model that runs, and its pass."""
    depths = dict.fromkeys(stacks.values(), depth) if depth else dict.fromkeys(depth_keys(config), FEW)
    few, errors = with_depths(config, depths), []
    for smallest, divisor in (LARGE_SHRINK, *SHRINKS) if config.hidden_size >= _LARGE else SHRINKS:
        small = copy.deepcopy(few)
        shrink(small, smallest, divisor)
        try:
            if sum(weight.numel() for weight in build_base(small, "meta").parameters()) > MAX_PARAMETERS:
                raise ValueError("too large to be run")
            model, first = build_base(small, "cpu").float(), Pass()
            _set_weights(model)
            if model._can_set_experts_implementation():  # the usual one wants sizes that tiny models have not
                model.set_experts_implementation("eager")
            if model._supports_sdpa:
                model.set_attn_implementation(NAME)
            first.run(model, [block for path in stacks for block in model.get_submodule(path)], text(model))
        except Exception as error:  # sizes that do not go together: the next ones may
            errors.append(error)
        else:
            return model, first
    raise errors[0]


@torch.no_grad()
def _set_weights(model: nn.Module) -> None:
    """Set all weights at random, norms and gates to 1, biases to 0.

    A model that is built while another one is loaded has none; and one that starts with zeros would hide what it does.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.1)
        else:
            parameter.fill_(not name.endswith("bias"))


def shrink(config: PretrainedConfig, smallest: int, divisor: int) -> None:
    """Divide, in place, all sizes of a config, so that those which go together still do; ids stay in the vocabulary."""
    for key, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            shrink(value, smallest, divisor)
        elif type(value) is int and value >= smallest and not key.endswith("_token_id"):
            setattr(config, key, value // divisor)
    vocabulary = getattr(config, "vocab_size", None)
    for key, value in vars(config).items():
        if key.endswith("_token_id") and type(value) is int and vocabulary and value >= vocabulary:
            setattr(config, key, vocabulary - 1)


def text(model: PreTrainedModel) -> Tensor:
    """Return a text of tokens that are all different, [1, S], without those that a config may give a meaning."""
    try:
        size = model.get_input_embeddings().num_embeddings
    except NotImplementedError:  # of the base of a decoder that stands alone only under its head
        size = model.config.vocab_size
    return torch.arange(_TOKENS, device="cpu")[None] + size // 2


def _hands_on(first: Pass, blocks: list[nn.Module], width: int) -> bool:
    """Return whether blocks run once each, in their order, and each takes the hidden states that the last one gave."""
    if [module for module in first.entered if module in blocks] != blocks:
        return False
    states = [state for block in blocks for state in (first.inputs[block], first.outputs[block])]
    if any(not isinstance(state, Tensor) or state.ndim != 3 or state.shape[-1] != width for state in states):
        return False
    if any(1 not in state.shape[:2] or state.shape != states[0].shape for state in states):  # of one text
        return False
    return all(torch.equal(states[i], states[i + 1]) for i in range(1, len(states) - 1, 2))


def _is_causal(model: PreTrainedModel, blocks: list[nn.Module]) -> bool:
    """Return whether another last token leaves the hidden states of the first ones as they are."""
    states = []
    for change in (0, 1):
        ids, other = text(model), Pass()
        ids[0, -1] += change
        other.run(model, blocks, ids)
        states.append(other.outputs[blocks[-1]][0, : _TOKENS // 2])
    # rounding of another batch of experts or chunk is near 1e-5; what an encoder sees is over 0.1
    return torch.allclose(*states, atol=1e-3)


def _is_exact(model: PreTrainedModel, first: Pass) -> bool:
    """Return whether the weights from the recorded inputs are those that the model computes without a fused kernel."""
    if not first.calls:
        return False
    model.set_attn_implementation("eager")
    own: dict[nn.Module, list[Tensor]] = {}

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        own[module] = [part for part in output if isinstance(part, Tensor)] if isinstance(output, tuple) else []

    hooks = [module.register_forward_hook(leave) for module, _ in first.calls]
    try:
        Pass().run(model, [], text(model), output_attentions=True)
    finally:
        for hook in hooks:
            hook.remove()
    return all(
        any(part.shape == weights.shape and torch.allclose(part, weights, atol=1e-5) for part in own[module])
        for module, weights in first.calls
    )


def _attention_sites(blocks: list[nn.Module], first: Pass, kinds: tuple[str, ...]) -> dict[str, AttentionSite]:
    """Return by kind the attention of a block; empty if blocks differ, or call more or fewer than these."""
    called = [module for module, _ in first.calls]
    found = []
    for block in blocks:
        paths = {module: path for path, module in block.named_modules()}
        found.append([paths[module] for module in called if module in paths])
    alike = all(paths == found[0] and len(paths) == len(kinds) for paths in found)
    return {kind: AttentionSite(path) for kind, path in zip(kinds, found[0], strict=True)} if alike else {}
