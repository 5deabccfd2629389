"""A config that was read, and the locations of its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from distill.config.nodes import ConfigError, WrongBelow
from distill.config.schema import names_at
from distill.run_dir.disk import BAD_DISK

T = TypeVar("T")
WRAPPED = "fails with"
"""What is said of an error that does not say itself what is wrong with the input."""


@dataclass
class Config(Generic[T]):
    """What was read: the object, and the place (``file:line`` or ``--override``) of every key that was given."""

    value: T
    locations: dict[str, str] = field(default_factory=dict)

    def error(self, path: str, message: str) -> ConfigError:
        """The error at a dotted key; a message that starts with ``field:`` points at that field of the key."""
        while inner := re.match(r"(\w+): (.*)", message, re.S):
            if f"{path}.{inner[1]}".strip(".") not in self.locations and inner[1] not in names_at(self.value, path):
                break
            path, message = f"{path}.{inner[1]}".strip("."), inner[2]
        known = path
        while known and known not in self.locations:
            known = known.rpartition(".")[0]
        place = self.locations.get(known, "")
        shown = "" if f"{place}.".startswith(f"--{path}.") else path
        return ConfigError(": ".join(part for part in (place, shown, message) if part))

    @contextmanager
    def error_context(self, path: str) -> Iterator[None]:
        """Turns what goes wrong inside the block into the error at a dotted key.

        A ``ValueError`` says what is wrong. Of any other error, which a library raises at what it was not made for, the
        kind is told as well. A disk that is full or cannot be written is no matter of a key.
        """
        try:
            yield
        except WrongBelow as error:
            raise self.error(f"{path}.{error.key}".strip("."), error.why) from error
        except ValueError as error:
            raise self.error(path, str(error)) from error
        except ConfigError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in BAD_DISK:
                raise
            raise self.error(path, f"{WRAPPED} {type(error).__name__}: {error}") from error
