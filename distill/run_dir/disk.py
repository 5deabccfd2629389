"""The file system under a run: whether its folder can be written, and what it says when it cannot."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BAD_DISK = (*_FULL, errno.EROFS, errno.EIO)
"""The numbers of the errors of a disk that is full, cannot be written, or is broken."""


def probe(folder: Path, wanted: int = 0) -> None:
    """Writes into the folder, or where it would be made, and leaves nothing there.

    Args:
        folder: it need not exist.
        wanted: the bytes for which there must be room.

    Raises:
        OSError: of the file system, if that cannot be done.
    """
    at = _existing(folder)
    with tempfile.TemporaryFile(dir=at, buffering=0) as file:
        file.write(bytes(2**16))
        os.fsync(file.fileno())
    if (free := shutil.disk_usage(at).free) < wanted:
        why = f"{os.strerror(errno.ENOSPC)}: {wanted / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are left"
        raise OSError(errno.ENOSPC, why, str(folder))


def reason(error: BaseException, folder: Path) -> str | None:
    """``path: what the operating system says``, if that is where an error comes from; else nothing.

    Libraries that write by themselves (safetensors, torch, arrow) raise errors of their own kind, with the number or
    the words of the operating system in their text and without the path. Where that is missing it is the run's folder;
    of a full disk the folder for temporary files, if that has less room.

    Args:
        error: that ended the run.
        folder: of the run.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    for cause in causes:
        number = cause.errno if isinstance(cause, OSError) else _number(str(cause))
        # What was being handled when another error came up is not its reason, unless it is the disk.
        if number is not None and (cause is error or number in BAD_DISK):
            named = getattr(cause, "filename", None)
            path = os.fsdecode(named) if isinstance(named, str | bytes) else _likely(folder, number)
            return f"{path}: {getattr(cause, 'strerror', None) or os.strerror(number)}"
    return f"{folder}: {error}" if isinstance(error, OSError) else None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    for at in (folder.absolute(), *folder.absolute().parents):
        try:
            at.lstat()
            return at.resolve(strict=True)  # of a link to nowhere its error
        except FileNotFoundError:
            if at.is_symlink():
                raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))


def _number(text: str) -> int | None:
    """The number of the operating system's error in a message of a library."""
    if numbered := re.search(r"os error (\d+)|\[Errno (\d+)\]", text):
        return int(numbered[1] or numbered[2])
    return next((number for number in BAD_DISK if os.strerror(number) in text), None)


def _likely(folder: Path, number: int) -> str:
    """Where the file system's error came up, if it does not say so itself."""
    temporary = Path(os.environ.get("TMPDIR", tempfile.gettempdir()))
    if number not in _FULL or not temporary.exists():
        return str(folder)
    here, there = (shutil.disk_usage(path).free for path in (_existing(folder), temporary))
    return str(temporary if there < here else folder)
