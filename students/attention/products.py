"""Read calls of torch functions: the factors of a product of matrices, the number by which a tensor is multiplied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Product:
    """A product of matrices; the dimensions of its factors and its result are letters, as in ``torch.einsum``."""

    left: Tensor
    right: Tensor
    letters: tuple[str, str, str]
    """Of the left factor, the right one and the result."""
    alpha: float = 1.0
    """The number by which it is multiplied."""

    def query_key(self) -> tuple[Tensor, Tensor] | None:
        """Return the factors as [..., Sq, D] and [..., Sk, D], if the result is [..., Sq, Sk]; None if it is not."""
        left, right, result = self.letters
        outer, (row, column), inner = result[:-2], result[-2:], self._contracted()
        if row not in left or column not in right:
            return None
        return _ordered(self.left, left, outer + row + inner), _ordered(self.right, right, outer + column + inner)

    def value(self) -> Tensor:
        """Return the right factor as [..., Sk, D], if the left one is that of weights, [..., Sq, Sk]."""
        left, right, _ = self.letters
        return _ordered(self.right, right, left[:-1] + self._contracted() + self._inner())

    def context(self, result: Tensor) -> Tensor:
        """Return the result likewise, as [..., Sq, D]."""
        return _ordered(result, self.letters[2], self.letters[0][:-1] + self._inner())

    def _contracted(self) -> str:
        left, right, result = self.letters
        return "".join(letter for letter in left if letter in right and letter not in result)

    def _inner(self) -> str:
        return "".join(letter for letter in self.letters[1] if letter not in self.letters[0])


def read_product(name: str, args: tuple, kwargs: Mapping[str, Any]) -> Product | None:
    """Return what a torch function multiplies; None if it is no product of two stacks of matrices.

    Args:
        name: of the function, without underscores around it.
        args: of the call.
        kwargs: of the call.
    """
    factors = list(tensors((*args, *kwargs.values())))
    if name == "einsum" and args and isinstance(args[0], str):
        terms, _, result = args[0].replace(" ", "").partition("->")
        letters = terms.split(",")
        if len(factors) == len(letters) == 2 and "." not in terms and len(result) > 2:
            return Product(*factors, (*letters, result))
        return None
    alpha = 1.0
    if name == "baddbmm":
        factors, alpha = factors[1:], float(kwargs.get("alpha", 1.0))
    elif name not in ("matmul", "bmm"):
        return None
    if len(factors) != 2 or min(factor.ndim for factor in factors) < 3:
        return None
    ndim = max(factor.ndim for factor in factors)
    outer = "abcdefgh"[: ndim - 2]
    left, right = (outer[ndim - factor.ndim :] for factor in factors)
    return Product(*factors, (left + "xy", right + "yz", outer + "xz"), alpha)


def read_number(name: str, args: tuple) -> float | None:
    """Return the number by which a function multiplies a tensor; None if it does not."""
    is_division = name in ("div", "truediv", "true_divide", "itruediv", "divide")
    if len(args) != 2 or not (is_division or name in ("mul", "rmul", "imul", "multiply")):
        return None
    numbers = [float(value) for value in args if _is_number(value)]
    if len(numbers) != 1 or not numbers[0] or (is_division and not _is_number(args[1])):
        return None
    return 1 / numbers[0] if is_division else numbers[0]


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among values, and in their lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):  # to read a number from an accelerator would wait for it
        return value.ndim == 0 and value.device.type == "cpu" and not value.requires_grad
    return isinstance(value, int | float)


def _ordered(tensor: Tensor, letters: str, wanted: str) -> Tensor:
    order = [letters.index(letter) for letter in wanted if letter in letters]
    return tensor if order == sorted(order) or len(order) != tensor.ndim else tensor.permute(order)
