"""The disk of a run: check that its folder is writable, and extract the message of a file system error."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_ERRNOS = (*_FULL, errno.EROFS, errno.EIO)
"""The errno values of a disk that is full, read-only or broken."""


def check_writable(folder: Path, needed_bytes: int = 0) -> None:
    """Check that a folder can be written by writing a temporary file into it, or into its nearest existing parent.

    Args:
        folder: it need not exist.
        needed_bytes: free space that is required.

    Raises:
        OSError: if the folder cannot be written or lacks space.
    """
    parent = _existing(folder)
    with tempfile.TemporaryFile(dir=parent, buffering=0) as file:
        file.write(bytes(2**16))
        os.fsync(file.fileno())
    if (free := shutil.disk_usage(parent).free) < needed_bytes:
        reason = f"{os.strerror(errno.ENOSPC)}: {needed_bytes / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are left"
        raise OSError(errno.ENOSPC, reason, str(folder))


def os_error_message(error: BaseException, folder: Path) -> str | None:
    """Return ``path: message of the operating system`` if an exception comes from the operating system, else None.

    Libraries that write files themselves (safetensors, torch, arrow) raise their own exceptions, with the errno or the
    operating system's message in the text and without the path. The path is then assumed to be the run folder; on a
    full disk, the folder of temporary files if that has less free space.

    Args:
        error: that ended the run.
        folder: of the run.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    for cause in causes:
        number = cause.errno if isinstance(cause, OSError) else _number(str(cause))
        # The context of an exception need not be its cause, but a disk error is.
        if number is not None and (cause is error or number in DISK_ERRNOS):
            filename = getattr(cause, "filename", None)
            path = os.fsdecode(filename) if isinstance(filename, str | bytes) else _likely_path(folder, number)
            return f"{path}: {getattr(cause, 'strerror', None) or os.strerror(number)}"
    return f"{folder}: {error}" if isinstance(error, OSError) else None


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    for path in (folder.absolute(), *folder.absolute().parents):
        try:
            path.lstat()
            return path.resolve(strict=True)  # raises at a dangling link
        except FileNotFoundError:
            if path.is_symlink():
                raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))


def _number(text: str) -> int | None:
    """Return the errno that a library's message contains, as a number or as the operating system's text."""
    if match := re.search(r"os error (\d+)|\[Errno (\d+)\]", text):
        return int(match[1] or match[2])
    return next((number for number in DISK_ERRNOS if os.strerror(number) in text), None)


def _likely_path(folder: Path, number: int) -> str:
    """Return the probable path of a file system error that does not name one."""
    temporary = Path(os.environ.get("TMPDIR", tempfile.gettempdir()))
    if number not in _FULL or not temporary.exists():
        return str(folder)
    free, temporary_free = (shutil.disk_usage(path).free for path in (_existing(folder), temporary))
    return str(temporary if temporary_free < free else folder)
