"""A file of fixed-width rows with checksums: a row is read exactly as written, or it is missing."""

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
    """An array [rows, *shape] on disk that several processes can read and write at the same time.

    A row is stored as an 8-byte checksum and its values. The checksum is seeded with a key, so it also proves the row's
    identity. The file is accessed by position instead of a memory map: on a full disk or a truncated file, reads and
    writes give errors and missing rows, where a memory map would end the process with SIGBUS.

    Args:
        path: of the file, created by ``create``.
        rows: number of rows.
        shape: of one row.
        dtype: of its values.
    """

    def __init__(self, path: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype):
        self.rows, self.shape, self.dtype = rows, shape, dtype
        try:
            self._file = path.open("r+b", buffering=0)
        except OSError:  # no permission to write, or a read-only disk: existing rows can be read
            self._file = path.open("rb", buffering=0)

    @classmethod
    def open(cls, path: Path, rows: int) -> RowFile | None:
        """Open an existing file; None if its header or size does not match an array of this number of rows."""
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(HEADER))
            shape, dtype = tuple(header["shape"]), np.dtype(header["dtype"])
            if header["rows"] == rows and path.stat().st_size == file_size(rows, shape, dtype):
                return cls(path, rows, shape, dtype)
        except (ValueError, TypeError, KeyError):  # raised by json and numpy for a damaged header
            pass
        return None

    @classmethod
    def create(cls, path: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype) -> RowFile:
        """Create a file without rows and reserve its space; of several processes the first provides the file for all.

        Raises:
            OSError: if there is no space for it.
        """
        draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        try:
            with draft.open("w+b") as file:
                header = json.dumps({"rows": rows, "shape": shape, "dtype": np.dtype(dtype).name})
                file.write(header.ljust(HEADER).encode())
                file.flush()
                _reserve(file.fileno(), file_size(rows, shape, dtype))
            try:
                os.link(draft, path)  # unlike a rename, it never replaces a file that another process has created
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        return cls(path, rows, shape, np.dtype(dtype))

    def read(self, rows: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the values [B, *shape] of rows, which of them are valid [B], and which are damaged [B].

        A row that is neither has not been written.
        """
        values, sums = np.zeros((len(rows), *self.shape), self.dtype), np.zeros(len(rows), np.uint64)
        for i, row in enumerate(rows):
            # A short read leaves zeros, and 0 is never a checksum.
            os.preadv(self._file.fileno(), [sums[i : i + 1], values[i]], self._offset(row))
        is_valid = sums == checksums(values, keys)
        return values, is_valid, ~is_valid & (sums != 0)

    def write(self, rows: np.ndarray, keys: np.ndarray, values: np.ndarray) -> None:
        """Write the values [B, *shape] of rows with their checksums.

        Raises:
            OSError: if they cannot be written.
        """
        values = np.ascontiguousarray(values, self.dtype)
        sums = checksums(values, keys)
        for i, row in enumerate(rows):
            os.pwritev(self._file.fileno(), [sums[i : i + 1], values[i]], self._offset(row))

    def _offset(self, row: int) -> int:
        return HEADER + int(row) * _row_bytes(self.shape, self.dtype)


def checksums(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the XXH3 of each row of values [B, ...], seeded with its key [B]; never 0, which denotes a missing row."""
    pairs = zip(values, keys, strict=True)
    return np.array([xxhash.xxh3_64_intdigest(row, int(key)) or 1 for row, key in pairs], np.uint64)


def file_size(rows: int, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the size of a file in bytes."""
    return HEADER + rows * _row_bytes(shape, dtype)


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return 8 + math.prod(shape) * np.dtype(dtype).itemsize


def _reserve(file: int, length: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, length)
    else:  # macOS: a full disk is noticed only when rows are written
        os.truncate(file, length)
