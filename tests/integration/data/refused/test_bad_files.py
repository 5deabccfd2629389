"""Forty files that are no data for their task: each is one line that names the file and the line in it."""

import gzip
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from distill.tasks.kinds.texts import Classification
from tests.helpers.tables import CSV, ONE, refused

JSON = '{"text": "a good film", "label": 1}\n'
TEXTS = {
    "a row of too many columns": (
        "x.csv",
        CSV + "a long, slow film,neg\n",
        "{} line 3: 3 columns, but 2 names in the first line; ',' separates them: quote a text that contains it",
    ),
    "a row of too few columns": (
        "x.csv",
        "text;label\ngood;1\nbad\n",
        "{} line 3: 1 columns, but 2 names in the first line",
    ),
    "a tab in a text": (
        "x.tsv",
        "text\tlabel\ngood\t1\nso\tbad\t0\n",
        "{} line 3: 3 columns, but 2 names in the first line; tab separates them: a .tsv has no quoting, so "
        "a text cannot contain a tab",
    ),
    "a quote that is never closed": (
        "x.csv",
        CSV + '"a bad film,neg\nx,pos\ny,neg\n',
        "{} line 3: a quoted text that begins here is never closed, so it contains all 2 lines after it",
    ),
    "a quote that swallows lines": (
        "x.csv",
        CSV + '" it begins,pos\nit is dull,neg\nand "then" it ends,neg\n',
        "{} line 3: a quoted text goes on after its closing quote (in line 5); "
        'quote the whole text and double the quotes inside it: " becomes ""',
    ),
    "quotes in a TSV": (
        "x.tsv",
        'text\tlabel\ngood\t1\n"he said ""no"""\t0\n',
        '{} line 3: \'text\' is quoted, \'"he said ""no"""\'; a .tsv has no quoting: remove the quotes',
    ),
    "all texts of a TSV in quotes": (
        "x.tsv",
        'text\tlabel\n"good"\t1\n"bad"\t0\n',
        "{} line 2: 'text' is quoted, '\"good\"'; a .tsv has no quoting: remove the quotes, or write a .csv; "
        "line 3: 'text' is quoted, '\"bad\"'; a .tsv has no quoting: remove the quotes, or write a .csv",
    ),
    "commas in a TSV": (
        "x.tsv",
        CSV,
        "{} line 1: there is no tab, but ','; a .tsv is separated by tabs, call it .csv",
    ),
    "two columns of a name": ("x.csv", "text,label,text\na,1,b\n", "{} line 1: two columns are named 'text'"),
    "no names of columns": (
        "x.csv",
        "a good film,1\na bad film,0\na warm film,1\n",
        "label: there is no column 'label'; there are a good film, 1; the first line of {} must name the columns, and "
        "seems to be a row: a good film, 1",
    ),
    "names of columns alone": (
        "x.csv",
        "text,label\n",
        "{} cannot be read: it has no rows below the names of the columns in line 1",
    ),
    "blank lines alone": ("x.csv", "\n\r\n\n", "{} cannot be read: it is empty"),
    "Latin-1": (
        "x.csv",
        (CSV + "café,neg\nx,pos\nnaïve,neg\n").encode("latin-1"),
        "{} line 3: the byte 0xe9 is not UTF-8; save the file as UTF-8; "
        "line 5: the byte 0xef is not UTF-8; save the file as UTF-8",
    ),
    "Latin-1 in JSON": (
        "x.jsonl",
        JSON.encode() + '{"text": "café", "label": 0}\n'.encode("latin-1"),
        "{} line 2: the byte 0xe9 is not UTF-8; save the file as UTF-8",
    ),
    "UTF-16 without its mark": ("x.csv", CSV.encode("utf-16-le"), "{} line 1: a NUL byte, so it is not UTF-8 text"),
    "half a UTF-16 file": (
        "x.csv",
        (CSV + "a,neg\n").encode("utf-16")[:-1],
        "{} line 3: it is not UTF-16-LE, as its first bytes say; save it as UTF-8",
    ),
    "a NUL byte": ("x.tsv", "text\tlabel\ngood\t1\nb\0d\t0\n", "{} line 3: a NUL byte, so it is not UTF-8 text"),
    "a picture": ("x.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "{} line 1: the byte 0x89 is not UTF-8"),
    "a compressed file": (
        "x.csv",
        gzip.compress(CSV.encode()),
        "{} cannot be read: it is compressed (gzip); unpack it first",
    ),
    "a carriage return in a row": ("x.csv", CSV + "a\rb,neg\n", "{} line 3: a carriage return within the line"),
    "one huge line": ("x.csv", "film " * 500_000, "{} cannot be read: it has no rows below the names"),
    "a comma too few in JSON": (
        "x.jsonl",
        JSON + '{"text": "bad" "label": 0}\n',
        "{} line 2: not valid JSON: Expecting ',' delimiter (column 16)",
    ),
    "a row of JSON that is a list": ("x.jsonl", JSON + '["bad", 0]\n', "{} line 2: ['bad', 0] is not an object"),
    "a key given twice": (
        "x.jsonl",
        JSON + '{"text": "x", "text": "y", "label": 0}',
        "{} line 2: 'text' is given twice",
    ),
    "JSON nested without end": (
        "x.jsonl",
        JSON + '{"text": ' + "[" * 100_000,
        "{} line 2: not valid JSON: it is nested too deeply",
    ),
    "one object for all rows": (
        "x.json",
        '{"text": ["good", "bad"],\n "label": [1, 0]}',
        "{} cannot be read: it holds one object; rows are a list of objects, or one object on each line",
    ),
    "a list that is not closed": (
        "x.json",
        f"[\n{JSON},\n{JSON}",
        "{} line 4: not valid JSON: the list is not closed by ']'",
    ),
    "a number in a list of rows": ("x.json", f"[\n{JSON},\n\n 7]", "{} line 5: 7 is not an object {{column: value}}"),
    "mixed labels": (
        "x.jsonl",
        JSON * 2 + '{"text": "bad", "label": "neg"}\n',
        "{} line 3: 'label' is 'neg', a text, where most rows have a number",
    ),
    "mixed texts": (
        "x.jsonl",
        JSON * 2 + '{"text": 5, "label": 0}\n',
        "{} line 3: 'text' is 5, a whole number, where most rows have a text",
    ),
    "a gap among whole numbers": ("x.jsonl", JSON + '{"text": "bad", "label": NaN}\n', "{} line 2: 'label' is missing"),
    "a label of more than 64 bits": (
        "x.jsonl",
        JSON + '{"text": "bad", "label": 123456789012345678901}\n',
        "{} line 2: 'label' is 123456789012345678901, which cannot be stored in a column with the others",
    ),
    "half a character": (
        "x.jsonl",
        JSON + '{"text": "\\ud83d", "label": 0}\n',
        "{} line 2: 'text' is '\\ud83d', which cannot be stored in a column with the others",
    ),
    "all rows empty": ("x.csv", "text,label\n,pos\n  ,neg\n", "{} line 2, 3: 'text' is empty"),
    "several classes of a row": (
        "x.jsonl",
        '{"text": "good", "label": [0, 1]}\n' * 2,
        f"{{}} line 1: 'label' is [0, 1], a list, as in all rows; {ONE}; several labels of a row are "
        "for task.name: multi_label, and probabilities are not supported",
    ),
    "soft labels": (
        "x.jsonl",
        '\n{"text": "good", "label": [0.2, 0.8]}\n' * 2,
        f"{{}} line 2: 'label' is [0.2, 0.8], a list, as in all rows; {ONE}; several labels of a row",
    ),
    "a mapping for a label": (
        "x.jsonl",
        '{"text": "good", "label": {"pos": 1}}\n' * 2,
        f"{{}} line 1: 'label' is {{{{'pos': 1}}}}, a mapping, as in all rows; {ONE}",
    ),
    "real numbers for classes": (
        "x.csv",
        "text,label\ngood,1.0\nbad,2.0\n",
        "{} line 2: 'label' is 1.0; a class is a whole number or a text, and real numbers are for regression; line 3:",
    ),
    "one class": (
        "x.csv",
        "text,label\ngood,pos\nbad,pos\n",
        "all rows of {} are of one class, 'pos'; there must be two or more",
    ),
    "two columns that are no pair": (
        "x.csv",
        "text,note,label\ngood,x,1\nbad,y,0\n",
        "text: name the column of the text, or the two of a pair; there are text, note, label; text, note are columns "
        "of texts",
    ),
}


def test_there_are_forty() -> None:
    assert len(TEXTS) == 40


@pytest.mark.parametrize(("name", "content", "message"), TEXTS.values(), ids=TEXTS.keys())
def test_a_bad_file(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, name: str, content: str | bytes, message: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = refused(Classification(data=str(file)), tokenizer).removeprefix("data: ")
    assert error.startswith(message.format(file))
    assert "\n" not in error and len(error) < 1000
