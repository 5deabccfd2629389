"""What is recorded while a forward pass runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from students.attention.recorded import join_values, record_watched
from students.attention.watch import AttentionWatch, WatchedAttention
from students.recording.signals import Attention, Signals, Site


class StopForward(Exception):
    """End a forward pass early."""


class Recording:
    """The signals recorded so far in a forward pass. Not a dataclass: FSDP copies dataclasses that blocks are given.

    Args:
        signals: to record.
        attention_sites: by attention module, its stack and the stack name of its sites.
        last: the site after which nothing more is needed.
    """

    def __init__(
        self,
        signals: Signals,
        attention_sites: dict[nn.Module, tuple[str, str]],
        last: Site | None,
    ):
        self.signals, self.attention_sites, self.last = signals, attention_sites, last
        self.requires_grad = torch.is_grad_enabled()
        self.rows = 0
        """The number of texts."""
        self.sequence_first: set[str] = set()
        """The stacks whose hidden states are [S, B, H] inside the model."""
        self.running: dict[str, int] = {}
        """By stack, the layer that is running."""
        self.hidden: dict[Site, Tensor] = {}
        self.attention: dict[Site, Attention] = {}
        self.watches: dict[Site, AttentionWatch] = {}
        self.routing: dict[Site, Tensor] = {}

    def enter(self, stack: str, layers: list[int], state: Tensor) -> None:
        """Note that a block starts, as the next of its layers: ALBERT's block runs as all of them."""
        previous = self.running.get(stack, 0)
        self.running[stack] = next(layer for layer in layers if layer > previous)
        self.rows = state.shape[stack in self.sequence_first]
        if previous == 0:
            self.record_hidden((stack, 0), state)

    def record_hidden(self, site: Site, state: Tensor) -> None:
        """Record a hidden state, if it is requested.

        Raises:
            StopForward: if it is the last one that is needed.
        """
        if site in self.signals.hidden:
            self.hidden[site] = state.transpose(0, 1) if site[0] in self.sequence_first else state
        if site == self.last:
            raise StopForward

    def record_attention(self, module: nn.Module, attention: Attention) -> None:
        """Record the attention of a module that runs, if it is requested."""
        site = self._requested_site(module)
        if site is not None:
            self.attention[site] = attention

    def record_routing(self, stack: str, logits: Tensor) -> None:
        """Record the logits of a router that runs, [B x S, E], if they are requested."""
        site = (stack, self.running[stack])
        if site in self.signals.routing:
            if torch.is_grad_enabled() != self.requires_grad:
                raise ValueError("gradient checkpointing: use_reentrant=True leaves routers without a gradient")
            self.routing[site] = logits.reshape(self.rows, -1, logits.shape[-1])

    def start_watch(self, module: nn.Module) -> None:
        """Watch an attention module from now on, if its layer is requested."""
        site = self._requested_site(module)
        if site is not None:
            self.watches[site] = AttentionWatch()
            self.watches[site].start()

    def stop_watch(self, module: nn.Module) -> None:
        """End what ``start_watch`` has started."""
        stack, name = self.attention_sites[module]
        if (name, self.running[stack]) in self.watches:
            self.watches[name, self.running[stack]].stop()

    def _requested_site(self, module: nn.Module) -> Site | None:
        """Return the site of an attention module that runs, if it is requested."""
        stack, name = self.attention_sites[module]
        site = (name, self.running[stack])
        if site not in self.signals.attention:
            return None
        if torch.is_grad_enabled() != self.requires_grad:
            raise ValueError("gradient checkpointing: use_reentrant=True leaves attention without a gradient")
        return site

    def take(self) -> tuple[dict[Site, Tensor], dict[Site, Attention], dict[Site, Tensor]]:
        """Return the recorded hidden states, attentions and logits of routers, and record nothing from now on.

        Gradient checkpointing keeps the recording, to run the blocks again in the backward pass. Nothing must be
        recorded twice, and no tensor be kept whose graph holds the recording: such a cycle is never collected. What
        was watched is brought into its layout here: what runs inside a block must be the same when it runs again.
        """
        watched = {site: join_values(watch.found) for site, watch in self.watches.items()}
        attention = self.attention | {
            site: _as_attention(found[0], self.rows) for site, found in watched.items() if len(found) == 1
        }
        recorded = self.hidden, attention, self.routing
        self.signals, self.hidden, self.attention, self.watches, self.routing = Signals(), {}, {}, {}, {}
        return recorded


def _as_attention(watched: WatchedAttention, rows: int) -> Attention:
    query, key, value, mask, scale, scores, sink = record_watched(watched, rows)
    return Attention(query, key, value, mask, scale, None, False, scores, sink)
