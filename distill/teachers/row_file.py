"""Rows of fixed width in a file, each with a checksum: a row is read as it was written, or it is missing."""

from __future__ import annotations

import json
import math
import os
import secrets
from pathlib import Path

import numpy as np
import xxhash

HEADER = 256
"""Bytes before the first row."""


class RowFile:
    """One array [rows, *shape] on disk, which several processes may read and write at the same time.

    A row is stored as a checksum of 8 bytes and its values. The checksum is seeded with a key, so it proves which row
    it is as well. The file is read and written by position and is no memory map: a full disk and a file cut short
    behind our back are errors and missing rows here, where a map would end the process with SIGBUS.

    Args:
        path: of the file, written by ``create``.
        rows: how many.
        shape: of one row.
        dtype: of its values.
    """

    def __init__(self, path: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype):
        self.rows, self.shape, self.dtype = rows, shape, dtype
        try:
            self._file = path.open("r+b", buffering=0)
        except OSError:  # somebody else's cache, or a disk that is read only: what is there can be read
            self._file = path.open("rb", buffering=0)

    @classmethod
    def open(cls, path: Path, rows: int) -> RowFile | None:
        """Open a file that is there; None if its header or its size is not that of an array of so many rows."""
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(HEADER))
            shape, dtype = tuple(header["shape"]), np.dtype(header["dtype"])
            if header["rows"] == rows and path.stat().st_size == size(rows, shape, dtype):
                return cls(path, rows, shape, dtype)
        except (ValueError, TypeError, KeyError):  # json's and numpy's own
            pass
        return None

    @classmethod
    def create(cls, path: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype) -> RowFile:
        """Make a file without rows, its whole space reserved; of several processes the first gives its own to all.

        Raises:
            OSError: if there is no room for it.
        """
        draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        try:
            with draft.open("w+b") as file:
                header = json.dumps({"rows": rows, "shape": shape, "dtype": np.dtype(dtype).name})
                file.write(header.ljust(HEADER).encode())
                file.flush()
                _reserve(file.fileno(), size(rows, shape, dtype))
            try:
                os.link(draft, path)  # unlike a rename it never replaces what another process has made meanwhile
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        return cls(path, rows, shape, np.dtype(dtype))

    def read(self, rows: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the values [B, *shape] of rows, which of them are whole [B], and which are damaged [B].

        A row that is neither has not been written.
        """
        values, sums = np.zeros((len(rows), *self.shape), self.dtype), np.zeros(len(rows), np.uint64)
        for at, row in enumerate(rows):
            # A short read leaves zeros, and zeros have no checksum.
            os.preadv(self._file.fileno(), [sums[at : at + 1], values[at]], self._offset(row))
        whole = sums == checksums(values, keys)
        return values, whole, ~whole & (sums != 0)

    def write(self, rows: np.ndarray, keys: np.ndarray, values: np.ndarray) -> None:
        """Write the values [B, *shape] of rows with their checksums.

        Raises:
            OSError: if they cannot be written.
        """
        values = np.ascontiguousarray(values, self.dtype)
        sums = checksums(values, keys)
        for at, row in enumerate(rows):
            os.pwritev(self._file.fileno(), [sums[at : at + 1], values[at]], self._offset(row))

    def _offset(self, row: int) -> int:
        return HEADER + int(row) * _row_bytes(self.shape, self.dtype)


def checksums(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """XXH3 of each row of values [B, ...], seeded with its key [B]; never 0, which stands for a missing row."""
    pairs = zip(values, keys, strict=True)
    return np.array([xxhash.xxh3_64_intdigest(row, int(key)) or 1 for row, key in pairs], np.uint64)


def size(rows: int, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """The bytes of a file."""
    return HEADER + rows * _row_bytes(shape, dtype)


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return 8 + math.prod(shape) * np.dtype(dtype).itemsize


def _reserve(file: int, length: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, length)
    else:  # macOS: a full disk is an error of the write that meets it
        os.truncate(file, length)
