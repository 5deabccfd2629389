"""Record requested layers of a forward pass, with SDPA."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from students.attention.interface import RECORDING, core_attention_forward, core_attention_mask
from students.families.families import blocks, family, is_watched
from students.recording.model_io import model_inputs, output_logits, valid_positions
from students.recording.recording import Recording, StopForward
from students.recording.signals import Attention, Signals, Trace, check_signals, last_site
from students.recording.sparse_lm_head import SparseLMHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Recorder:
    """Make a model traceable: register hooks on its blocks, and replace its SDPA by one that records.

    Attention that cannot be recorded so is watched; from the first trace that asks for it on, the model attends
    eagerly.

    Create it before the model is compiled. The hooks hold no tensors and do nothing outside ``trace``. In a
    ``deepcopy`` of the model they are inactive, and the copy needs a recorder of its own. For a peft model pass
    ``get_base_model()``, which holds the adapters.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._recording: Recording | None = None
        self._attention_sites: dict[nn.Module, tuple[str, str]] = {}
        self._hooks = []
        for stack, facts in family(model.config).stacks.items():
            order = blocks(model, stack)
            for block in dict.fromkeys(order):
                layers = [layer for layer, other in enumerate(order, start=1) if other is block]
                enter, leave = partial(self._enter, stack, layers), partial(self._leave, stack)
                self._hooks.append(block.register_forward_pre_hook(enter, with_kwargs=True))
                self._hooks.append(block.register_forward_hook(leave))
                self._find_attention(stack, layers, block)
                if facts.experts and facts.experts.router in dict(block.named_modules()):
                    router, route = facts.experts.router, partial(self._route, stack, facts.experts.logits)
                    self._hooks.append(block.get_submodule(router).register_forward_hook(route))
        self._head = SparseLMHead(model)
        self._implementation = model.config._attn_implementation
        self._watches = is_watched(model.config)
        self._uses_sdpa = bool(self._attention_sites) and model._supports_sdpa and not self._watches
        if self._uses_sdpa:
            model.set_attn_implementation(NAME)

    def _find_attention(self, stack: str, layers: list[int], block: nn.Module) -> None:
        for kind, site in family(self.model.config).stacks[stack].attention.items():
            if site.layers and not set(layers) & set(site.layers):
                continue
            module = block.get_submodule(site.module)
            if site.is_watched and module not in self._attention_sites:  # Zamba's blocks share it
                self._hooks.append(module.register_forward_pre_hook(self._start_watch))
                self._hooks.append(module.register_forward_hook(self._stop_watch, always_call=True))
            self._attention_sites[module] = (stack, stack if kind == "self" else kind)

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
        if signals.attention and self._watches:
            self._attend_eagerly()
        elif signals.attention and not self._uses_sdpa:
            raise ValueError(f"the attention of {config.model_type} cannot be recorded: it cannot use SDPA")
        arguments: dict[str, Any] = model_inputs(self.model, batch)
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            arguments["use_cache"] = False  # a cache would keep keys and values of all layers in memory
        last = last_site(config, signals) if stop_early else None
        self._recording = recording = Recording(signals, self._attention_sites, last)
        recording.sequence_first = {name for name, stack in family(config).stacks.items() if stack.sequence_first}
        if signals.attention and not self._watches:
            arguments["recording"] = recording
        logits, self._head.labels = None, batch.get("labels")
        try:
            output = self.model(**arguments)
            logits = output_logits(output) if signals.logits else None
        except StopForward:
            pass
        finally:
            self._recording = self._head.labels = None
            hidden, attention, routing = recording.take()
        missing = sorted(signals.hidden - hidden.keys()) + sorted(signals.attention - attention.keys())
        missing += sorted(signals.routing - routing.keys())
        if missing or (signals.logits and logits is None):
            raise RuntimeError(f"{type(self.model).__name__} gave no {missing or 'logits'}, which were requested")
        return Trace(logits, hidden, attention, valid_positions(config, batch), routing)

    def close(self) -> None:
        """Remove the hooks and restore the model's own attention."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._head.close()
        if self.model.config._attn_implementation != self._implementation:
            self.model.set_attn_implementation(self._implementation)

    def _attend_eagerly(self) -> None:
        if any(module._compiled_call_impl is not None for module in self.model.modules()):
            raise ValueError(
                f"the attention of a {self.model.config.model_type} cannot be recorded in a compiled model"
            )
        if self.model.config._attn_implementation != "eager":
            self.model.set_attn_implementation("eager")

    def _route(self, stack: str, index: int | None, router: nn.Module, args: tuple, output: Any) -> None:
        if self._recording is not None:
            self._recording.record_routing(stack, output if index is None else output[index])

    def _start_watch(self, module: nn.Module, args: tuple) -> None:
        if self._recording is not None:
            self._recording.start_watch(module)

    def _stop_watch(self, module: nn.Module, args: tuple, output: object) -> None:
        if self._recording is not None:
            self._recording.stop_watch(module)

    def _enter(self, stack: str, layers: list[int], block: nn.Module, args: tuple, kwargs: dict) -> None:
        if self._recording is not None:
            self._recording.enter(stack, layers, args[0] if args else kwargs["hidden_states"])

    def _leave(self, stack: str, block: nn.Module, args: tuple, output: Tensor | tuple | list) -> None:
        if self._recording is not None:
            state = output[0] if isinstance(output, tuple | list) else output
            self._recording.record_hidden((stack, self._recording.running[stack]), state)


def _recording_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    recording: Recording | None = None,
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
