"""Whatever a file holds, it is read or refused with a line of it."""

import random
from pathlib import Path

import pytest

from distill.data.files import read_splits

BASES = {
    "x.csv": b'text,label\n"a, b",1\nc,0\n"d ""q"" e",1\n"x\ny",0\n\nf,1\n' * 2,
    "x.tsv": b'text\tlabel\na\t1\n"b\t0\nc "x" d\t1\n' * 2,
    "x.jsonl": b'{"text": "a", "label": 1}\n{"text": "b", "label": 0.5, "m": {"x": [1, null]}}\n{"text": "c"}\n',
    "x.json": b'[{"text": "a", "label": 1},\n {"text": "b", "label": 0},\n{"text": "c", "label": [1]}]',
}
PIECES = [
    *(bytes([byte]) for byte in b"\"',\n\r\t;|[]{}: \\\0\xff\xc3"),
    *(b"\\ud800", b"1e999", b"NaN", b"-Infinity", b"9" * 20, b"null", b'""', b"\xef\xbb\xbf", b"\xe2\x80\xa8"),
]


@pytest.mark.parametrize("name", BASES)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path: Path, name: str) -> None:
    """Of 400 files with pieces put in and bytes taken out, each row and each problem has a line of the file."""
    draw, file, read = random.Random(name), tmp_path / name, 0
    for _ in range(400):
        content = bytearray(BASES[name])
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(content) + 1)
            if draw.random() < 0.7:
                content[at:at] = draw.choice(PIECES)
            else:
                del content[at : at + draw.randint(1, 8)]
        file.write_bytes(content)
        try:
            (table,) = read_splits(str(file))["train"].files
        except ValueError as error:
            assert str(error).startswith(f"data: {file}") or str(error).startswith(f"data: '{file}'")
            continue
        read += 1
        last = content.count(b"\n") + content.count(b"\r") + 1
        assert all(1 <= problem.line <= last for problem in table.problems)
        assert len(table.rows) == len(table.lines)
        assert table.lines == sorted(table.lines) and len(table.rows.to_list()) == len(table.lines)
    assert 50 < read < 400
