"""Record requested layers of a forward pass, with SDPA."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from students.attention.interface import RECORDING, core_attention_forward, core_attention_mask
from students.families.families import blocks, family
from students.recording.model_io import model_inputs, output_logits, valid_positions
from students.recording.signals import Attention, Signals, Site, Trace, check_signals, last_site
from students.recording.sparse_lm_head import SparseLMHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Recorder:
    """Make a model traceable: register hooks on its blocks, and replace its SDPA by one that records.

    Create it before the model is compiled. The hooks hold no tensors and do nothing outside ``trace``. In a
    ``deepcopy`` of the model they are inactive, and the copy needs a recorder of its own. For a peft model pass
    ``get_base_model()``, which holds the adapters.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._recording: _Recording | None = None
        self._attention_sites: dict[nn.Module, tuple[str, str]] = {}
        self._hooks = []
        for stack, facts in family(model.config).stacks.items():
            order = blocks(model, stack)
            for block in dict.fromkeys(order):
                layers = [layer for layer, other in enumerate(order, start=1) if other is block]
                enter, leave = partial(self._enter, stack, layers), partial(self._leave, stack)
                self._hooks.append(block.register_forward_pre_hook(enter, with_kwargs=True))
                self._hooks.append(block.register_forward_hook(leave))
                for kind, parts in facts.attention.items():
                    name = stack if kind == "self" else kind
                    self._attention_sites[block.get_submodule(parts.module)] = (stack, name)
        self._head = SparseLMHead(model)
        self._implementation = model.config._attn_implementation
        self._records_attention = bool(self._attention_sites) and model._supports_sdpa
        if self._records_attention:
            model.set_attn_implementation(NAME)

    def trace(self, batch: dict[str, Tensor], signals: Signals, stop_early: bool = False) -> Trace:
        """Run one forward pass, in the model's own mode, under the caller's autocast and gradient settings.

        Args:
            batch: the model gets the keys that it takes, but no labels. The logits of an LM head are computed where
                the batch has a label, and zeros where that is -100.
            signals: to record.
            stop_early: end the pass after the last block that the signals need, if they need no logits. For teachers
                only: wrappers that rely on a full forward pass, such as FSDP, may fail.

        Raises:
            ValueError: if the model lacks a site, cannot record attention, or uses reentrant checkpointing.
            RuntimeError: if a requested signal was not recorded.
        """
        config = self.model.config
        check_signals(config, signals)
        if signals.attention and not self._records_attention:
            raise ValueError(f"the attention of {config.model_type} cannot be recorded: it cannot use SDPA")
        arguments: dict[str, Any] = model_inputs(self.model, batch)
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            arguments["use_cache"] = False  # a cache would keep keys and values of all layers in memory
        last = last_site(config, signals) if stop_early else None
        self._recording = recording = _Recording(signals, self._attention_sites, last, torch.is_grad_enabled())
        recording.sequence_first = {name for name, stack in family(config).stacks.items() if stack.sequence_first}
        if signals.attention:
            arguments["recording"] = recording
        logits, self._head.labels = None, batch.get("labels")
        try:
            output = self.model(**arguments)
            logits = output_logits(output) if signals.logits else None
        except _Stop:
            pass
        finally:
            self._recording = self._head.labels = None
            hidden, attention = recording.take()
        missing = sorted(signals.hidden - hidden.keys()) + sorted(signals.attention - attention.keys())
        if missing or (signals.logits and logits is None):
            raise RuntimeError(f"{type(self.model).__name__} gave no {missing or 'logits'}, which were requested")
        return Trace(logits, hidden, attention, valid_positions(config, batch))

    def close(self) -> None:
        """Remove the hooks and restore the model's own attention."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._head.close()
        if self._records_attention:
            self.model.set_attn_implementation(self._implementation)

    def _enter(self, stack: str, layers: list[int], block: nn.Module, args: tuple, kwargs: dict) -> None:
        if self._recording is not None:
            self._recording.enter(stack, layers, args[0] if args else kwargs["hidden_states"])

    def _leave(self, stack: str, block: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        if self._recording is not None:
            state = output[0] if isinstance(output, tuple) else output
            self._recording.record_hidden((stack, self._recording.running[stack]), state)


class _Stop(Exception):
    """End a forward pass early."""


class _Recording:
    """The signals recorded so far in a forward pass. Not a dataclass: FSDP copies dataclasses that blocks are given.

    Args:
        signals: to record.
        attention_sites: by attention module, its stack and the stack name of its sites.
        last: the site after which nothing more is needed.
        requires_grad: whether the pass has a gradient.
    """

    def __init__(
        self,
        signals: Signals,
        attention_sites: dict[nn.Module, tuple[str, str]],
        last: Site | None,
        requires_grad: bool,
    ):
        self.signals, self.attention_sites, self.last = signals, attention_sites, last
        self.requires_grad = requires_grad
        self.sequence_first: set[str] = set()
        """The stacks whose hidden states are [S, B, H] inside the model."""
        self.running: dict[str, int] = {}
        """By stack, the layer that is running."""
        self.hidden: dict[Site, Tensor] = {}
        self.attention: dict[Site, Attention] = {}

    def enter(self, stack: str, layers: list[int], state: Tensor) -> None:
        """Note that a block starts, as the next of its layers: ALBERT's block runs as all of them."""
        previous = self.running.get(stack, 0)
        self.running[stack] = next(layer for layer in layers if layer > previous)
        if previous == 0:
            self.record_hidden((stack, 0), state)

    def record_hidden(self, site: Site, state: Tensor) -> None:
        if site in self.signals.hidden:
            self.hidden[site] = state.transpose(0, 1) if site[0] in self.sequence_first else state
        if site == self.last:
            raise _Stop

    def record_attention(self, module: nn.Module, attention: Attention) -> None:
        stack, name = self.attention_sites[module]
        site = (name, self.running[stack])
        if site not in self.signals.attention:
            return
        if torch.is_grad_enabled() != self.requires_grad:
            raise ValueError("gradient checkpointing: use_reentrant=True leaves attention without a gradient")
        self.attention[site] = attention

    def take(self) -> tuple[dict[Site, Tensor], dict[Site, Attention]]:
        """Return the recorded hidden states and attentions, and record nothing from now on.

        Gradient checkpointing keeps the recording, to run the blocks again in the backward pass. Nothing must be
        recorded twice, and no tensor be kept whose graph holds the recording: such a cycle is never collected.
        """
        recorded = self.hidden, self.attention
        self.signals, self.hidden, self.attention = Signals(), {}, {}
        return recorded


def _recording_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    recording: _Recording | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Record the inputs of the model's attention, and call it; the signature is that of ``AttentionInterface``."""
    if recording is not None:
        scale = query.shape[-1] ** -0.5 if kwargs.get("scaling") is None else kwargs["scaling"]
        is_causal = module.is_causal if kwargs.get("is_causal") is None else kwargs["is_causal"]
        bias = kwargs.get("position_bias")
        # a mask of token pairs is causal already, one of tokens is not
        is_pair_mask = mask is not None and mask.ndim == 4
        pair_mask = mask if mask is None or is_pair_mask else mask[:, None, None]
        recording.record_attention(
            module, Attention(query, key, value, pair_mask, scale, bias, is_causal and not is_pair_mask)
        )
    return core_attention_forward(module, query, key, value, mask, **kwargs)


NAME = RECORDING
AttentionInterface.register(NAME, _recording_attention)
# without a mask function the mask would silently be None, and attention include padding
AttentionMaskInterface.register(NAME, core_attention_mask)
