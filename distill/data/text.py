"""From the bytes of a file to its lines: encoding, line ends, and the bytes that are no text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from distill.data.table import Problem

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte order marks; those of UTF-32 begin with those of UTF-16, so they come first."""
_NO_TEXT = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
"""How compressed files begin."""
_BAD = re.compile("[\0\udc80-\udcff]")
"""A NUL, or a byte that is not UTF-8."""


def read_lines(path: Path) -> tuple[list[str], list[str]]:
    """The lines of a text file without their ends, and what was found out about it: encoding and line ends.

    A byte that is not UTF-8 is a surrogate in its line, which ``bad_byte`` finds. A carriage return before the line
    feed stays.

    Raises:
        ValueError: if the file is compressed or not text from its first line on.
        OSError: if it cannot be read.
    """
    data = path.read_bytes()
    for mark, packer in _NO_TEXT.items():
        if data.startswith(mark):
            raise ValueError(f"it is compressed ({packer}); unpack it first")
    mark, codec = next(((m, c) for m, c in _MARKS.items() if data.startswith(m)), (b"", "utf-8"))
    told = [f"{codec.upper()} with a byte order mark"] if mark else []
    if codec == "utf-8":
        text = data[len(mark) :].decode("utf-8", "surrogateescape")
    else:
        try:
            text = data[len(mark) :].decode(codec)
        except UnicodeDecodeError as error:
            line = data[len(mark) : len(mark) + error.start].decode(codec, "ignore").count("\n") + 1
            raise ValueError(f"line {line}: it begins as {codec.upper()} and is not; save it as UTF-8") from error
    end = "\n" if "\n" in text or "\r" not in text else "\r"
    if end == "\r":
        told.append("lines that end in CR")
    elif text.count("\r\n") * 2 > text.count("\n"):
        told.append("lines that end in CRLF")
    lines = text.split(end)
    if not lines[-1]:
        lines.pop()
    if lines and (bad := bad_byte(lines[0])):
        raise ValueError(f"line 1: {bad}")
    return lines, told


def bad_byte(line: str) -> str:
    """What is wrong with the bytes of a line; nothing if they are text."""
    found = _BAD.search(line)
    if not found:
        return ""
    if found[0] == "\0":
        return "a NUL byte, so it is not UTF-8 text (or UTF-16 without a byte order mark); save it as UTF-8"
    return f"the byte 0x{ord(found[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8"


def unreadable(lines: list[str]) -> list[Problem]:
    """The lines whose bytes are no text."""
    return [Problem(number, bad) for number, line in enumerate(lines, 1) if (bad := bad_byte(line))]


def is_blank(line: str) -> bool:
    """Whether nothing stands on a line; a tab is something, it separates two columns."""
    return not line.strip(" \r\n")
