"""Write the files of a run atomically: after a crash a file is complete or unchanged.

A draft is written beside the file, flushed to the disk and renamed. Drafts of a killed process are removed when the run
is resumed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DRAFT = ".draft"
"""The suffix of drafts; their names begin with a dot."""


@contextmanager
def atomic_write(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield the path of a draft that replaces ``path`` at the end of the block; it is removed if the block raises.

    Args:
        path: of the file.
        keep: to which an existing file at ``path`` is renamed.
    """
    draft = path.with_name(f".{path.name}{DRAFT}")
    with _removed_on_error(draft):
        draft.touch()
        mode = draft.stat().st_mode
        yield draft
        draft.chmod(mode)  # safetensors makes files that nobody else may read
        _sync(draft)
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(draft, path)
        _sync(path.parent)


@contextmanager
def atomic_update_dir(folder: Path) -> Iterator[Path]:
    """Yield an empty draft folder; at the end of the block its entries replace those of the same name in ``folder``."""
    draft = folder / f".{folder.name}{DRAFT}"
    remove(draft)
    draft.mkdir()
    with _removed_on_error(draft):
        yield draft
        for path in draft.rglob("*"):
            if path.is_file():
                path.chmod(draft.stat().st_mode & 0o666)  # safetensors makes files that nobody else may read
            _sync(path)
        for entry in sorted(draft.iterdir()):
            target, old = folder / entry.name, folder / f".{entry.name}.old{DRAFT}"
            if target.is_dir():
                remove(old)
                os.replace(target, old)  # a rename cannot replace a folder that is not empty
            os.replace(entry, target)
            remove(old)
        draft.rmdir()
        _sync(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")


def remove_drafts(folder: Path) -> None:
    """Remove the drafts that a killed process has left in a run folder."""
    for parent in (folder, folder / "checkpoints"):
        for draft in parent.glob(f".*{DRAFT}"):
            remove(draft)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _removed_on_error(draft: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            remove(draft)
        raise


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # not every file system supports it for folders
            raise
    finally:
        os.close(descriptor)
