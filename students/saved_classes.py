"""Classes by name, as the files of a saved model name them."""

import sys
from typing import TypeVar

Class = TypeVar("Class")


def find_class(base: type[Class], name: str) -> type[Class] | None:
    """Return the class below ``base``, at any depth, with this name, or None.

    Where a module was imported anew, as after a change in a notebook, it is the newer class.
    """
    matches = [cls for cls in _descendants(base) if cls.__name__ == name and cls.__module__ in sys.modules]
    return matches[-1] if matches else None


def _descendants(base: type[Class]) -> list[type[Class]]:
    return [cls for child in base.__subclasses__() for cls in (child, *_descendants(child))]
