"""A parsed config and the locations of its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from distill.config.errors import ConfigError
from distill.config.schema import field_names_at
from distill.run_dir.disk import DISK_ERRNOS

T = TypeVar("T")
WRAPPED = "fails with"
"""The message prefix of exceptions other than ``ValueError``, whose text does not describe the input."""


@dataclass
class Config(Generic[T]):
    """A parsed config.

    Args:
        value: the object that was built.
        locations: {dotted key: ``file:line`` or ``--override``} of every given key.
    """

    value: T
    locations: dict[str, str] = field(default_factory=dict)

    def error(self, path: str, message: str) -> ConfigError:
        """Return the error at a dotted key; a message that starts with ``field:`` points at that field of the key."""
        while inner := re.match(r"(\w+): (.*)", message, re.S):
            inner_path = f"{path}.{inner[1]}".strip(".")
            if inner_path not in self.locations and inner[1] not in field_names_at(self.value, path):
                break
            path, message = inner_path, inner[2]
        given = path
        while given and given not in self.locations:
            given = given.rpartition(".")[0]
        location = self.locations.get(given, "")
        shown_path = "" if f"{location}.".startswith(f"--{path}.") else path
        return ConfigError(": ".join(part for part in (location, shown_path, message) if part))

    @contextmanager
    def error_context(self, path: str) -> Iterator[None]:
        """Convert exceptions of the block into a ``ConfigError`` at a dotted key.

        The message of a ``ValueError`` is used as it is. For any other exception, which a library raises on unexpected
        input, the message names its type as well. Errors of the disk pass unchanged: they concern no key.
        """
        try:
            yield
        except ValueError as error:
            raise self.error(path, str(error)) from error
        except ConfigError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
                raise
            raise self.error(path, f"{WRAPPED} {type(error).__name__}: {error}") from error
