"""Decode the bytes of a file into lines: encoding, line ends, and invalid bytes."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""{byte order mark: encoding}. Those of UTF-32 begin with those of UTF-16, so they come first."""
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
"""{first bytes of a compressed file: its format}."""
_INVALID = re.compile("[\0\udc80-\udcff]")
"""A NUL, or a byte that is not UTF-8."""


def read_lines(path: Path) -> tuple[list[str], list[str]]:
    """Return the lines of a text file without line ends, and its dialect: encoding and line ends, where unusual.

    A byte that is not UTF-8 becomes a surrogate, which ``bad_byte`` finds. A carriage return before a line feed stays.

    Raises:
        ValueError: if the file is compressed, or its first line is not text.
        OSError: if it cannot be read.
    """
    data = path.read_bytes()
    for mark, compression in _COMPRESSED.items():
        if data.startswith(mark):
            raise ValueError(f"it is compressed ({compression}); unpack it first")
    mark, codec = next(((m, c) for m, c in _BYTE_ORDER_MARKS.items() if data.startswith(m)), (b"", "utf-8"))
    dialect = [f"{codec.upper()} with a byte order mark"] if mark else []
    if codec == "utf-8":
        text = data[len(mark) :].decode("utf-8", "surrogateescape")
    else:
        try:
            text = data[len(mark) :].decode(codec)
        except UnicodeDecodeError as error:
            line = data[len(mark) : len(mark) + error.start].decode(codec, "ignore").count("\n") + 1
            raise ValueError(
                f"line {line}: it is not {codec.upper()}, as its first bytes say; save it as UTF-8"
            ) from error
    end = "\n" if "\n" in text or "\r" not in text else "\r"
    if end == "\r":
        dialect.append("lines that end in CR")
    elif text.count("\r\n") * 2 > text.count("\n"):
        dialect.append("lines that end in CRLF")
    lines = text.split(end)
    if not lines[-1]:
        lines.pop()
    if lines and (bad := bad_byte(lines[0])):
        raise ValueError(f"line 1: {bad}")
    return lines, dialect


def bad_byte(line: str) -> str:
    """Return a description of the invalid byte of a line; empty if there is none."""
    match = _INVALID.search(line)
    if not match:
        return ""
    if match[0] == "\0":
        return "a NUL byte, so it is not UTF-8 text (or UTF-16 without a byte order mark); save it as UTF-8"
    return f"the byte 0x{ord(match[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8"


def is_blank(line: str) -> bool:
    """Return whether a line is blank; a tab is not, as it separates columns."""
    return not line.strip(" \r\n")
