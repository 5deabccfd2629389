"""One process at a time works in the folder of a run."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

NAME = "lock"
"""The file; the lock is the kernel's (flock), which ends with the process, however it ends. On NFS it holds among
machines where the mount has locks (NFSv4, or lockd).
"""


class Locked(Exception):
    """Another process works in the folder; the text says which."""


def owner(folder: Path) -> str | None:
    """Who works in the folder now, as ``process 12 on HOST since TIME``; None if nobody does. Writes nothing."""
    try:
        with (folder / NAME).open() as file:
            return None if _try(file, fcntl.LOCK_SH) else _read(file)
    except OSError:
        return None


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds the folder while the block runs.

    Raises:
        Locked: if another process, or another run of this one, has it.
    """
    file = _take(folder / NAME)
    try:
        yield
    finally:
        if file:
            (folder / NAME).unlink(missing_ok=True)
            file.close()


def _take(path: Path) -> IO[str] | None:
    """The open file that holds the lock; none where the file system has no locks."""
    for last in [False] * 20 + [True]:
        file = path.open("a+")
        try:
            taken = _try(file, fcntl.LOCK_EX)
        except OSError as error:
            file.close()
            why = f"{path.parent} lies where files cannot be locked ({error.strerror}): start no second run in it"
            warnings.warn(why, stacklevel=2)
            return None
        if taken and _stands(path, file):
            file.truncate(0)
            now = datetime.now().isoformat(sep=" ", timespec="seconds")
            json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": now}, file)
            file.flush()
            return file
        with file:
            if last:
                raise Locked(_read(file))
        time.sleep(0.05)  # who asks for the owner has the lock for a moment
    return None


def _stands(path: Path, file: IO[str]) -> bool:
    """Whether the open file is the one at the path: who ends in order removes it, maybe after it was opened here."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _try(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[str]) -> str:
    file.seek(0)
    try:
        found = json.load(file)
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
