"""Recording a forward pass: the layers that are asked for and nothing else, with SDPA at work."""

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
    """Makes a model traceable: puts hooks on its blocks, and in place of its SDPA one that takes notes.

    Make it before the model is compiled. The hooks hold no tensors and do nothing outside ``trace``; in a
    ``deepcopy`` of the model they stay mute, and the copy needs a recorder of its own. Of a peft model give
    ``get_base_model()``, which holds the adapters.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._recording: _Recording | None = None
        self._attends: dict[nn.Module, tuple[str, str]] = {}
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
                    self._attends[block.get_submodule(parts.module)] = (stack, name)
        self._head = SparseLMHead(model)
        self._implementation = model.config._attn_implementation
        if model._supports_sdpa:
            model.set_attn_implementation(NAME)

    def trace(self, batch: dict[str, Tensor], signals: Signals, stop_early: bool = False) -> Trace:
        """One forward pass, in the model's own mode, under the caller's autocast and gradient settings.

        What the model does not take of the batch, and labels, are left out; the logits of a vocabulary are computed
        where the batch has a label, and zeros where that is -100. With ``stop_early`` and no logits
        asked, the pass ends right after the last block that something asked for needs. This is for teachers:
        wrappers that count on a whole forward pass, as FSDP does, may not bear it.

        Raises:
            ValueError: if the model lacks such a site, cannot record attention, or checkpoints reentrantly.
            RuntimeError: if something that was asked for did not arrive.
        """
        config = self.model.config
        check_signals(config, signals)
        if signals.attention and not self.model._supports_sdpa:
            raise ValueError(f"the attention of {config.model_type} cannot be recorded: it cannot use SDPA")
        arguments: dict[str, Any] = model_inputs(self.model, batch)
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            arguments["use_cache"] = False  # a cache would keep key and value of every layer alive
        last = last_site(config, signals) if stop_early else None
        self._recording = recording = _Recording(signals, self._attends, last, torch.is_grad_enabled())
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
            raise RuntimeError(f"{type(self.model).__name__} left no {missing or 'logits'}, though asked for")
        return Trace(logits, hidden, attention, valid_positions(config, batch))

    def close(self) -> None:
        """Takes the hooks off and gives the model back its own attention."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._head.close()
        if self.model._supports_sdpa:
            self.model.set_attn_implementation(self._implementation)

    def _enter(self, stack: str, layers: list[int], block: nn.Module, args: tuple, kwargs: dict) -> None:
        if self._recording is not None:
            self._recording.enter(stack, layers, args[0] if args else kwargs["hidden_states"])

    def _leave(self, stack: str, block: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        if self._recording is not None:
            state = output[0] if isinstance(output, tuple) else output
            self._recording.keep((stack, self._recording.running[stack]), state)


class _Stop(Exception):
    """Ends a forward pass of which nothing more is needed."""


class _Recording:
    """What is kept while a forward pass runs. No dataclass: FSDP copies those that blocks are given.

    Args:
        signals: what to keep.
        attends: the modules that attend: (stack, name of their sites).
        last: the site after which nothing more is needed.
        gradient: whether the pass has one.
    """

    def __init__(self, signals: Signals, attends: dict[nn.Module, tuple[str, str]], last: Site | None, gradient: bool):
        self.signals, self.attends, self.last, self.gradient = signals, attends, last, gradient
        self.running: dict[str, int] = {}
        """By stack, the layer that runs."""
        self.hidden: dict[Site, Tensor] = {}
        self.attention: dict[Site, Attention] = {}

    def enter(self, stack: str, layers: list[int], state: Tensor) -> None:
        """A block starts to run: as the next of its layers, for ALBERT's block is all of them."""
        before = self.running.get(stack, 0)
        self.running[stack] = next(layer for layer in layers if layer > before)
        if before == 0:
            self.keep((stack, 0), state)

    def keep(self, site: Site, state: Tensor) -> None:
        if site in self.signals.hidden:
            self.hidden[site] = state
        if site == self.last:
            raise _Stop

    def attend(self, module: nn.Module, attention: Attention) -> None:
        stack, name = self.attends[module]
        site = (name, self.running[stack])
        if site not in self.signals.attention:
            return
        if torch.is_grad_enabled() != self.gradient:
            raise ValueError("gradient checkpointing: use_reentrant=True leaves attention without a gradient")
        self.attention[site] = attention

    def take(self) -> tuple[dict[Site, Tensor], dict[Site, Attention]]:
        """Hands over what was kept, and keeps nothing from now on.

        Gradient checkpointing holds the recording, to run the blocks again in the backward pass: nothing must be
        recorded twice, and no tensor be held whose graph holds the recording, a circle no collector sees.
        """
        taken = self.hidden, self.attention
        self.signals, self.hidden, self.attention = Signals(), {}, {}
        return taken


def _recording_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    recording: _Recording | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """The model's own attention, SDPA or what stands in its place, that notes what it is given; the signature is the
    one ``AttentionInterface`` wants.
    """
    if recording is not None:
        scale = query.shape[-1] ** -0.5 if rest.get("scaling") is None else rest["scaling"]
        is_causal = module.is_causal if rest.get("is_causal") is None else rest["is_causal"]
        bias = rest.get("position_bias")
        # a mask of pairs hides the future already, one of tokens does not
        hides = mask is not None and mask.ndim == 4
        pairs = mask if mask is None or hides else mask[:, None, None]
        recording.attend(module, Attention(query, key, value, pairs, scale, bias, is_causal and not hides))
    return core_attention_forward(module, query, key, value, mask, **rest)


NAME = RECORDING
AttentionInterface.register(NAME, _recording_attention)
# without this one the mask would be None, silently, and padding be attended to
AttentionMaskInterface.register(NAME, core_attention_mask)
