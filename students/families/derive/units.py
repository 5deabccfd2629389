"""Find the units of a block: which inputs of a linear layer follow from which outputs of earlier ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from students.families.linear import is_linear
from students.families.parts import Projection

_MOST_INPUTS = 2048
"""Of a layer of which it is tried what each input follows from, a millisecond each."""
_MOST_PARTS = 3
"""A fused layer holds at most a query, a key and a value."""


@dataclass(frozen=True)
class Reader:
    """A linear layer whose inputs fall into units, each of which follows from some outputs of other layers alone.

    Neurons follow from one token each; ``mixes_tokens`` tells heads.
    """

    path: str
    count: int
    """The number of units."""
    same_token: tuple[Projection, ...]
    """The layers from which a unit follows, with outputs of its own token."""
    all_tokens: tuple[Projection, ...]
    """The same, with outputs of other tokens too: keys and values."""

    @property
    def mixes_tokens(self) -> bool:
        """Return whether units follow from other tokens."""
        return bool(self.all_tokens)


class LinearCalls:
    """The inputs and outputs of the linear layers of a block in one forward pass, with gradients."""

    def __init__(self, block: nn.Module, run: Callable[[], object]):
        self.layers = {path: module for path, module in block.named_modules() if is_linear(module)}
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, list[Tensor]] = {path: [] for path in self.layers}
        paths = {module: path for path, module in self.layers.items()}

        def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if args[0].requires_grad and isinstance(output, Tensor):
                self.inputs.setdefault(paths[module], args[0])
                self.outputs[paths[module]].append(output)

        hooks = [module.register_forward_hook(note) for module in self.layers.values()]
        try:
            with torch.enable_grad():
                run()
        finally:
            for hook in hooks:
                hook.remove()

    def dependence(self, reader: str, i: int | None = None, token: int | None = None) -> dict[str, Tensor]:
        """Return by layer which of its outputs an input of ``reader`` follows from, bool [tokens, outputs].

        Args:
            reader: path of a linear layer.
            i: index of the input; by default all of them.
            token: at which the input is; by default all.
        """
        states = self.inputs[reader].flatten(0, -2)
        states = states if i is None else states[:, i, None]
        states = states if token is None else states[token, None]
        # A sum with different weights, so that gradients do not cancel.
        value = (states * torch.linspace(1.0, 2.0, states.numel(), dtype=states.dtype).view_as(states)).sum()
        outputs = [(path, tensor) for path, tensors in self.outputs.items() for tensor in tensors]
        gradients = torch.autograd.grad(value, [t for _, t in outputs], retain_graph=True, allow_unused=True)
        result: dict[str, Tensor] = {}
        for (path, _), gradient in zip(outputs, gradients, strict=True):
            # A layer may run twice, as DeBERTa's key does on its positions.
            if gradient is not None and (is_read := gradient.flatten(0, -2) != 0).any():
                result[path] = torch.cat([result[path], is_read]) if path in result else is_read
        return result


def find_readers(block: nn.Module, run: Callable[[], object]) -> list[Reader]:
    """Return the linear layers of a block that read units, in the order in which they run.

    Args:
        block: of a model in which every parameter takes a gradient.
        run: runs the model on one text.
    """
    calls, readers = LinearCalls(block, run), []
    for path in calls.inputs:
        if reader := _find_reader(calls, path):
            readers.append(reader)
    return readers


def _find_reader(calls: LinearCalls, path: str) -> Reader | None:
    width = calls.inputs[path].shape[-1]
    first = {layer: rows.any(0) for layer, rows in calls.dependence(path, 0).items()}
    if width > _MOST_INPUTS or all(is_read.all() for is_read in first.values()):
        return None  # each input follows from all outputs there are before it
    by_layer: dict[str, list[Tensor]] = {}
    for i in range(width):
        dependence = calls.dependence(path, i)
        for layer, module in calls.layers.items():
            size = calls.outputs[layer][0].shape[-1] if calls.outputs[layer] else 0
            nothing = torch.zeros(size, dtype=torch.bool)
            if layer != path and module is not calls.layers[path]:
                by_layer.setdefault(layer, []).append(dependence[layer].any(0) if layer in dependence else nothing)
    matrices = {layer: torch.stack(rows) for layer, rows in by_layer.items()}
    # What an input follows from as a whole says nothing; a neuron that is off follows from nothing.
    partial = {layer: m for layer, m in matrices.items() if m.any() and not (m.all(1) | ~m.any(1)).all()}
    if not partial:
        return None
    labels = _components(torch.cat(list(partial.values()), dim=1))
    inputs, *rest = labels.split([width, *(matrix.shape[1] for matrix in partial.values())])
    outputs = dict(zip(partial, rest, strict=True))
    count = len(inputs.unique())
    if width % count or not torch.equal(inputs, torch.arange(width) // (width // count)):
        return None
    last = calls.dependence(path, token=-1)
    groups: dict[bool, list[Projection]] = {False: [], True: []}
    for layer, of_unit in outputs.items():
        found = _projections(layer, of_unit, count)
        if not found:
            return None
        for projection in found:
            size = len(of_unit) // projection.parts
            rows = last[layer][: len(calls.outputs[layer][0].flatten(0, -2)), projection.part * size :][:, :size]
            groups[bool(rows[:-1].any())].append(projection)
    return Reader(path, count, tuple(groups[False]), tuple(groups[True]))


def _components(matrix: Tensor) -> Tensor:
    """Return the connected component of each row and of each column of a bool matrix, numbered by the first row."""
    rows, columns = matrix.nonzero().T
    size = sum(matrix.shape)
    graph = coo_array((torch.ones(len(rows)).numpy(), (rows.numpy(), (columns + len(matrix)).numpy())), (size, size))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


def _projections(layer: str, of_unit: Tensor, count: int) -> list[Projection]:
    """Return the slices of a layer whose outputs belong to ``count`` units in their order; none if there are none."""
    for parts in range(1, _MOST_PARTS + 1):
        if len(of_unit) % (parts * count):
            continue
        size = len(of_unit) // parts
        # A unit that is off in this text has no outputs: they count as its own.
        expected = torch.arange(len(of_unit)) % size // (size // count)
        if bool(((of_unit == expected) | (of_unit >= count)).all()):
            return [Projection(layer, part, parts) for part in range(parts)]
    return []
