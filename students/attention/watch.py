"""Watch the code of a model compute attention: find queries, keys, values and scores among its products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from students.attention.products import Product, read_number, read_product, tensors


@dataclass(frozen=True)
class WatchedAttention:
    """One attention as the code of a model computed it: ``softmax(scores) value``, in the model's own layout."""

    query: Tensor
    """[..., Sq, D]."""
    key: Tensor
    """[..., Sk, D]."""
    factors: tuple[float, float]
    """The numbers by which query and key were multiplied already."""
    scale: float
    """The product of all numbers by which ``query key^T`` is multiplied, those in ``factors`` too."""
    scores: Tensor
    """The input of the softmax, masked and with all that was added to the scores, [..., Sq, Sk]."""
    sink: Tensor | None
    """What the softmax gets beside the scores, as more columns that no value belongs to, [..., Sq, N]."""
    value: Tensor
    """[..., Sk, D]."""
    context: Tensor
    """The product of weights and value, [..., Sq, D]."""
    path: tuple[str, ...]
    """The names of the modules in which all of it was computed, the outer ones first."""


@dataclass(frozen=True)
class _Columns:
    """The scores beside which others were put as columns, those others, and the first column of the scores."""

    scores: Tensor
    sink: Tensor
    start: int


@dataclass(frozen=True)
class _Scores:
    """What follows from a product that may be that of queries and keys: scores, or after the softmax weights."""

    order: int
    query: Tensor
    key: Tensor
    factors: tuple[float, float]
    scale: float
    path: tuple[str, ...]
    masked: Tensor | None = None
    """The input of the softmax, in weights."""
    columns: _Columns | None = None
    """If other columns stand beside the scores."""


class AttentionWatch(TorchFunctionMode):
    """Watch the calls of torch functions while it is active, and note those that are an attention.

    An attention is a product whose result, through functions that keep elements in their places, is the input of a
    softmax, whose result likewise is the left factor of a product. Other columns may stand beside the scores in the
    softmax, if they are cut off afterwards: a sink of attention (GPT-OSS). Of several products that are added up, the
    first one is that of queries and keys. What is noted is part of the model's graph, and nothing is computed but
    columns put together: under gradient checkpointing the same happens with and without it.

    Args:
        path: returns the names of the modules that run.
    """

    def __init__(self, path: Callable[[], tuple[str, ...]] = tuple) -> None:
        super().__init__()
        self.found: list[WatchedAttention] = []
        self._path = path
        self._scores: dict[int, tuple[Tensor, _Scores]] = {}
        """By the id of a tensor, which is kept so that no other one gets its id."""
        self._factors: dict[int, tuple[Tensor, float]] = {}
        """Likewise the numbers by which a tensor was multiplied since it was computed."""

    def start(self) -> None:
        """Watch from now on, until ``stop``."""
        self.__enter__()

    def stop(self) -> None:
        """Watch no longer, and keep only what was found."""
        self.__exit__(None, None, None)
        self._scores, self._factors = {}, {}

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call a torch function, and note what it computes."""
        kwargs = kwargs or {}
        output, name = func(*args, **kwargs), getattr(func, "__name__", "").strip("_")
        if product := read_product(name, args, kwargs):
            self._note_product(product, output)
        elif name == "softmax":
            self._note_softmax(args, kwargs, output)
        elif name not in _MOVED:
            self._note_other(name, args, kwargs, output)
        return output

    def _note_product(self, product: Product, output: Tensor) -> None:
        weights, path = self._scores_of(product.left), self._path()
        if weights is not None and weights.masked is not None:
            path, value, context = _common(weights.path, path), product.value(), product.context(output)
            query, key, factors, scale = weights.query, weights.key, weights.factors, weights.scale
            columns = weights.columns
            scores, sink = (columns.scores, columns.sink) if columns else (weights.masked, None)
            if scores.shape[-1] == product.left.shape[-1]:
                self.found.append(WatchedAttention(query, key, factors, scale, scores, sink, value, context, path))
        elif (query_key := product.query_key()) is not None:
            factors = self._factor(product.left), self._factor(product.right)
            scale = product.alpha * factors[0] * factors[1]
            self._scores[id(output)] = output, _Scores(len(self._scores), *query_key, factors, scale, path)

    def _note_softmax(self, args: tuple, kwargs: dict, output: Tensor) -> None:
        masked, *rest = args or (kwargs["input"],)
        scores, dim = self._scores_of(masked), rest[0] if rest else kwargs.get("dim")
        if scores is not None and scores.masked is None and dim in (-1, masked.ndim - 1):
            path = _common(scores.path, self._path())
            self._scores[id(output)] = output, replace(scores, masked=masked, path=path)

    def _note_other(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        inputs, number = list(tensors((*args, *kwargs.values()))), read_number(name, args)
        if not inputs:
            return
        if name in ("cat", "concat") and self._note_columns(inputs, output):
            return
        largest = max(inputs, key=Tensor.numel)
        factor = self._factor(largest) * (number or 1.0) if number or name in _VIEWS else 1.0
        for result in tensors([output]):
            same = [tensor for tensor in inputs if tensor.numel() == result.numel()]
            known = [scores for tensor in same if (scores := self._scores_of(tensor)) is not None]
            self._factors[id(result)] = result, factor
            if known:
                first = min(known, key=lambda scores: scores.order)
                scale = first.scale * (number or 1.0) if first.masked is None else first.scale
                self._scores[id(result)] = result, replace(first, scale=scale)
            elif (weights := self._scores_of(largest)) is not None and _is_without_sink(largest, result, weights):
                self._scores[id(result)] = result, weights

    def _note_columns(self, inputs: list[Tensor], output: Tensor) -> bool:
        """Note scores beside which others were put as columns, and return whether that is what was put together."""
        places = [place for place, tensor in enumerate(inputs) if self._scores_of(tensor) is not None]
        if len(places) != 1 or len(inputs) < 2 or output.shape[:-1] != inputs[places[0]].shape[:-1]:
            return False
        (place,) = places
        scores, others = self._scores_of(inputs[place]), [*inputs[:place], *inputs[place + 1 :]]
        if scores is None or scores.masked is not None or scores.columns is not None:
            return False
        sink = others[0] if len(others) == 1 else torch.cat(others, -1)
        columns = _Columns(inputs[place], sink, sum(tensor.shape[-1] for tensor in inputs[:place]))
        self._scores[id(output)] = output, replace(scores, columns=columns)
        return True

    def _scores_of(self, tensor: Tensor) -> _Scores | None:
        return self._scores[id(tensor)][1] if id(tensor) in self._scores else None

    def _factor(self, tensor: Tensor) -> float:
        return self._factors[id(tensor)][1] if id(tensor) in self._factors else 1.0


_MOVED = {"gather", "index_select", "take_along_dim", "flip", "roll", "sort", "cumsum"}
"""Functions that move elements from their places."""
_VIEWS = {"view", "reshape", "transpose", "permute", "contiguous", "to", "float", "type", "type_as", "get", "getitem"}
_VIEWS |= {"unsqueeze", "squeeze", "expand", "chunk", "split", "flatten", "unflatten", "swapaxes", "repeat_interleave"}


def _is_without_sink(weights: Tensor, result: Tensor, facts: _Scores) -> bool:
    """Return whether a result is the view of the columns of weights that belong to keys."""
    if facts.masked is None or facts.columns is None or not result._is_view():
        return False
    start, width = facts.columns.start, facts.columns.scores.shape[-1]
    if weights.shape[-1] != width + facts.columns.sink.shape[-1] or result.shape != (*weights.shape[:-1], width):
        return False
    offset = weights.storage_offset() + start * weights.stride(-1)
    return (result.storage_offset(), result.stride()) == (offset, weights.stride())


def _common(path: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """Return the longest common start of two paths."""
    length = min(len(path), len(other))
    return path[: next((i for i in range(length) if path[i] != other[i]), length)]
