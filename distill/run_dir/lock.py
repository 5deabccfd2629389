"""Lock a run folder, so that only one process works in it."""

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
"""The lock file. The lock itself is the kernel's (flock) and ends with the process, however it ends. On NFS it holds
across machines if the mount supports locks (NFSv4, or lockd).
"""


class RunDirLocked(Exception):
    """The run folder is in use by another process, which the message names."""


def lock_owner(folder: Path) -> str | None:
    """Return the process that holds a folder, as ``process 12 on HOST since TIME``; None if it is free.

    Writes nothing.
    """
    try:
        with (folder / NAME).open() as file:
            return None if _try_lock(file, fcntl.LOCK_SH) else _read_owner(file)
    except OSError:
        return None


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder during the block.

    Raises:
        RunDirLocked: if another process, or another run of this process, holds it.
    """
    file = _acquire(folder / NAME)
    try:
        yield
    finally:
        if file:
            (folder / NAME).unlink(missing_ok=True)
            file.close()


def _acquire(path: Path) -> IO[str] | None:
    """Return the open file that holds the lock; None if the file system does not support locks."""
    for is_last_attempt in [False] * 20 + [True]:
        file = path.open("a+")
        try:
            acquired = _try_lock(file, fcntl.LOCK_EX)
        except OSError as error:
            file.close()
            message = f"{path.parent} cannot be locked ({error.strerror}): start no second run in it"
            warnings.warn(message, stacklevel=2)
            return None
        if acquired and _is_file_at(path, file):
            file.truncate(0)
            now = datetime.now().isoformat(sep=" ", timespec="seconds")
            json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": now}, file)
            file.flush()
            return file
        with file:
            if is_last_attempt:
                raise RunDirLocked(_read_owner(file))
        time.sleep(0.05)  # lock_owner of another process holds the lock briefly
    return None


def _is_file_at(path: Path, file: IO[str]) -> bool:
    """Return whether an open file is still the one at the path; the previous owner removes it when it finishes."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(file: IO[str], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(file: IO[str]) -> str:
    file.seek(0)
    try:
        owner = json.load(file)
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
