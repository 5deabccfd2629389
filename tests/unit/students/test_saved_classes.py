"""Classes by the name that a file holds."""

import sys
from types import ModuleType

from students.saved_classes import find_class


class Base: ...


def defined(module: str, monkeypatch) -> type:
    """A class ``Thing`` of a module that has been imported."""
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    return type("Thing", (Base,), {"__module__": module})


def test_of_a_module_that_was_imported_anew_the_newer_class_is_found(monkeypatch) -> None:
    older, newer = (defined(name, monkeypatch) for name in ("of_before", "of_now"))
    assert find_class(Base, "Thing") is newer is not older
    below = type("Below", (older,), {"__module__": "of_now"})
    assert find_class(Base, "Below") is below


def test_a_class_whose_module_is_gone_is_not_found(monkeypatch) -> None:
    gone = defined("of_before", monkeypatch)
    assert find_class(Base, "Thing") is gone
    monkeypatch.delitem(sys.modules, "of_before")
    assert find_class(Base, "Thing") is None
