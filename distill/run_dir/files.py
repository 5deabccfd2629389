"""The one way to write a file of a run: whole, or not at all, whenever the process or the machine stops.

A draft is written in the folder of the file, flushed to the disk and renamed, so that another file system for
temporary files plays no part. A draft that a killed process has left is removed when the run goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DRAFT = ".draft"
"""How the names of drafts end; they begin with a dot."""


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """The path of a draft, a file, that takes the place of ``path`` when the block ends, or goes if it raises.

    Args:
        path: of the file.
        keep: what the file that stood there before is called from then on.
    """
    draft = path.with_name(f".{path.name}{DRAFT}")
    with _removed_on_error(draft):
        yield draft
        _sync(draft)
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(draft, path)
        _sync(path.parent)


@contextmanager
def replacing_in(folder: Path) -> Iterator[Path]:
    """An empty draft folder; each file and folder in it takes the place of its namesake in ``folder`` at the end."""
    draft = folder / f".{folder.name}{DRAFT}"
    remove(draft)
    draft.mkdir()
    with _removed_on_error(draft):
        yield draft
        for path in draft.rglob("*"):
            _sync(path)
        for entry in sorted(draft.iterdir()):
            place, old = folder / entry.name, folder / f".{entry.name}.old{DRAFT}"
            if place.is_dir():
                remove(old)
                os.replace(place, old)  # a folder that holds files cannot be renamed over
            os.replace(entry, place)
            remove(old)
        draft.rmdir()
        _sync(folder)


def write_text(path: Path, text: str) -> None:
    """Writes a file of text."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def remove_drafts(folder: Path) -> None:
    """Removes what a killed process has left in the folder of a run."""
    for place in (folder, folder / "checkpoints"):
        for draft in place.glob(f".*{DRAFT}"):
            remove(draft)


def remove(path: Path) -> None:
    """Removes a file, or a folder with what is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _removed_on_error(draft: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what went wrong first is what is told
            remove(draft)
        raise


def _sync(path: Path) -> None:
    """Waits until a file or the entries of a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # not every file system can do it with a folder
            raise
    finally:
        os.close(descriptor)
