"""Forty files that are no data for their task: each is one line that names the file and the line in it."""

import gzip
import os
import random
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, Image
from pyarrow import parquet
from transformers import PreTrainedTokenizerBase

from distill.data.files import splits_of
from distill.tasks.kinds.texts import Classification, Regression
from distill.tasks.kinds.tokens import TokenClassification
from tests.helpers.tables import refused

CSV = "text,label\na good film,pos\n"
JSON = '{"text": "a good film", "label": 1}\n'
ONE = "a label is one class, a whole number or a text"
TEXTS = {
    "a row of too many columns": (
        "x.csv",
        CSV + "a long, slow film,neg\n",
        "{} line 3: 3 columns, and the names in the first line are 2; ',' separates them: put a text with it in quotes",
    ),
    "a row of too few columns": (
        "x.csv",
        "text;label\ngood;1\nbad\n",
        "{} line 3: 1 columns, and the names in the first line are 2",
    ),
    "a tab in a text": (
        "x.tsv",
        "text\tlabel\ngood\t1\nso\tbad\t0\n",
        "{} line 3: 3 columns, and the names in the first line are 2; tab separates them: a .tsv has no quoting, so no "
        "text may have a tab",
    ),
    "a quote that is never closed": (
        "x.csv",
        CSV + '"a bad film,neg\nx,pos\ny,neg\n',
        "{} line 3: a quote that begins a text here is never closed, and all 2 lines after it are in its text",
    ),
    "a quote that swallows lines": (
        "x.csv",
        CSV + '" it begins,pos\nit is dull,neg\nand "then" it ends,neg\n',
        "{} line 3: a text that begins with a quote mark goes on behind the quote that closes it (in line 5); "
        'put the whole text in quotes and double those within it: " becomes ""',
    ),
    "quotes in a TSV": (
        "x.tsv",
        'text\tlabel\ngood\t1\n"he said ""no"""\t0\n',
        '{} line 3: \'text\' is in quotes, \'"he said ""no"""\'; a .tsv has no quoting: write texts plain, or a .csv',
    ),
    "all texts of a TSV in quotes": (
        "x.tsv",
        'text\tlabel\n"good"\t1\n"bad"\t0\n',
        "{} line 2: 'text' is in quotes, '\"good\"'; a .tsv has no quoting: write texts plain, or a .csv; "
        "line 3: 'text' is in quotes, '\"bad\"'; a .tsv has no quoting: write texts plain, or a .csv",
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
        "{} line 3: it begins as UTF-16-LE and is not; save it as UTF-8",
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
        "{} line 2: 'label' is 123456789012345678901, which cannot stand in a column with the others",
    ),
    "half a character": (
        "x.jsonl",
        JSON + '{"text": "\\ud83d", "label": 0}\n',
        "{} line 2: 'text' is '\\ud83d', which cannot stand in a column with the others",
    ),
    "all rows empty": ("x.csv", "text,label\n,pos\n  ,neg\n", "{} line 2, 3: 'text' is empty"),
    "several classes of a row": (
        "x.jsonl",
        '{"text": "good", "label": [0, 1]}\n' * 2,
        f"{{}} line 1: 'label' is [0, 1], a list, as in all rows; {ONE}; several classes of a row, or their "
        "probabilities, are not read",
    ),
    "soft labels": (
        "x.jsonl",
        '\n{"text": "good", "label": [0.2, 0.8]}\n' * 2,
        f"{{}} line 2: 'label' is [0.2, 0.8], a list, as in all rows; {ONE}; several classes of a row",
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


@pytest.mark.parametrize(("name", "content", "said"), TEXTS.values(), ids=TEXTS.keys())
def test_a_bad_file(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, name: str, content: str | bytes, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    told = refused(Classification(data=str(file)), tokenizer).removeprefix("data: ")
    assert told.startswith(said.format(file))
    assert "\n" not in told and len(told) < 1000


def test_all_kinds_of_bad_rows_are_told_at_once(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    for split, label in (("train", 1), ("validation", 2)):
        bad = f'good,{label}\nx,y,0\n"a" b,0\n,1\nbad,0\n"never\n'
        (tmp_path / f"{split}.csv").write_text("text,label\ngood,1\nbad,0\n" + bad)
    told = refused(task := Classification(data=str(tmp_path)), tokenizer)
    train, validation = told.removeprefix("data: ").split(f"; {tmp_path}/validation.csv ")
    for part in (train.removeprefix(f"{tmp_path}/train.csv "), validation):
        for line in ("line 5: 3 columns", "line 6: a text that begins", "line 7: 'text' is empty", "line 9: a quote"):
            assert line in part
    assert "line 4: 'label' is 2, not one of LABEL_0, LABEL_1; line 5" in validation and "line 4" not in train
    assert [(file.rows_read, file.rows_refused) for file in task.facts.files] == [(8, 4), (8, 5)]


def test_of_many_bad_rows_ten_are_shown(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    (tmp_path / "x.csv").write_text("text,label\n" + "good,1\n,0\n" * 30)
    lines = "3, 5, 7, 9, 11, 13, 15, 17, 19, 21"
    said = f"data: {tmp_path}/x.csv line {lines}: 'text' is empty (and 20 more lines)"
    assert refused(Classification(data=str(tmp_path / "x.csv")), tokenizer) == said


DAY = date(2024, 1, 1)


@pytest.mark.parametrize(
    ("labels", "task", "said"),
    [
        ([DAY] * 2, Classification, f"'label' is datetime.date(2024, 1, 1), of type date, as in all rows; {ONE}"),
        (
            [DAY] * 2,
            Regression,
            "'label' is datetime.date(2024, 1, 1), of type date, as in all rows; a label is one num",
        ),
        ([b"a", b"b"], Classification, f"'label' is b'a', of type bytes, as in all rows; {ONE}"),
        ([Decimal("1.5")] * 2, Classification, f"'label' is Decimal('1.5'), of type Decimal, as in all rows; {ONE}"),
        ([True, False], Regression, "'label' is True, true or false, as in all rows; a label is one number"),
        ([[1.0], [2.0]], Regression, "'label' is [1.0], a list, as in all rows; a label is one number"),
        ([{"a": 1}, {"a": 2}], Classification, f"'label' is {{'a': 1}}, a mapping, as in all rows; {ONE}"),
        ([None, None], Classification, "'label' is missing"),
    ],
)
def test_types_that_are_no_labels(tmp_path: Path, tokenizer, labels: list, task: type, said: str) -> None:
    parquet.write_table(pa.table({"text": ["good", "bad"], "label": labels}), tmp_path / "x.parquet")
    rows = "1, 2" if labels[0] is None else "1"
    told = refused(task(data=str(tmp_path / "x.parquet")), tokenizer)
    assert told.startswith(f"data: {tmp_path}/x.parquet row {rows}: {said}")


def test_a_gap_among_real_numbers_is_the_row_at_fault(tmp_path: Path, tokenizer) -> None:
    parquet.write_table(pa.table({"text": ["a", "b", "c"], "label": [1.0, float("nan"), 0.0]}), tmp_path / "x.parquet")
    said = f"data: {tmp_path}/x.parquet row 2: 'label' is missing"
    assert refused(Classification(data=str(tmp_path / "x.parquet")), tokenizer) == said


@pytest.mark.parametrize("column", ["text", "label"])
def test_pictures(tmp_path: Path, tokenizer, column: str) -> None:
    rows = {"text": ["good", "bad"], "label": [1, 0]} | {column: [{"bytes": b"no picture", "path": None}] * 2}
    Dataset.from_dict(rows).cast_column(column, Image()).to_parquet(tmp_path / "x.parquet")
    said = f"data: {tmp_path}/x.parquet row 1: {column!r} is {{'bytes': b'no picture', 'path': None}}, "
    assert refused(Classification(data=str(tmp_path / "x.parquet"), text="text"), tokenizer).startswith(said)


@pytest.mark.parametrize(("tags", "said"), [([["x"]], "[['x']]"), ([{"x": 1}], "[{'x': 1}]")])
def test_tags_that_are_no_classes(tmp_path: Path, tokenizer, tags: list, said: str) -> None:
    parquet.write_table(pa.table({"tokens": [["a"]] * 2, "ner_tags": [tags] * 2}), tmp_path / "x.parquet")
    told = refused(TokenClassification(data=str(tmp_path / "x.parquet")), tokenizer)
    assert told.startswith(f"data: {tmp_path}/x.parquet row 1: 'ner_tags' is {said}, a list, as in all rows; a tag is")


NUMBERS = "text,label\na,1\nb,0\n"


@pytest.mark.parametrize(
    ("train", "validation", "said"),
    [
        (NUMBERS, "text,label\n", "validation.csv cannot be read: it has no rows below the names"),
        (NUMBERS, "text,label\na,1\nb,pos\n", "validation.csv line 3: 'label' is 'pos', not one of LABEL_0, LABEL_1"),
        (NUMBERS, "text,label\na,1\nb,2\n", "validation.csv line 3: 'label' is 2, not one of LABEL_0, LABEL_1"),
        (NUMBERS, "text,label\na,1\nb,\n", "validation.csv line 3: 'label' is missing"),
        (
            f"{NUMBERS}c,pos\n",
            NUMBERS,
            "train.csv line 4: 'label' is 'pos', not a number, as the labels of validation are",
        ),
        ("text,label\na,pos\nb,neg\n", NUMBERS, "validation.csv line 2: 'label' is 1, not one of neg, pos; line 3: "),
    ],
)
def test_files_that_do_not_go_together(tmp_path: Path, tokenizer, train: str, validation: str, said: str) -> None:
    (tmp_path / "train.csv").write_text(train)
    (tmp_path / "validation.csv").write_text(validation)
    assert refused(Classification(data=str(tmp_path)), tokenizer).startswith(f"data: {tmp_path}/{said}")


class TestNoFiles:
    """What is no file, or not the one that is meant."""

    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("make", "name", "said"),
        [
            (lambda: os.mkfifo("x.csv"), "x.csv", "'x.csv' is a pipe, a socket or a device, not a file"),
            (
                lambda: Path("x.csv").symlink_to("x.csv"),
                "x.csv",
                "'x.csv' is a link to nothing or to itself, not a file",
            ),
            (lambda: Path("x.csv").mkdir(), "x.csv", "the folder 'x.csv' has no train file (train.parquet, "),
            (lambda: Path("d").mkdir() or Path("d/train.csv").mkdir(), "d", "d/train.csv is not a file"),
            (lambda: Path("d").mkdir() or os.mkfifo("d/train.csv"), "d", "d/train.csv is not a file"),
            (
                lambda: Path("x.csv.gz").touch(),
                "x.csv.gz",
                "x.csv.gz is not one of .parquet, .csv, .tsv, .json, .jsonl, .ar",
            ),
            (lambda: None, "x" * 300 + ".csv", f"'{'x' * 300}.csv' cannot be read: File name too long"),
            (lambda: None, "x\0.csv", "there is no file or folder 'x\\x00.csv'"),
        ],
        ids=["pipe", "link", "folder", "folder in a folder", "pipe in a folder", "gz", "long name", "NUL name"],
    )
    def test_what_is_no_file(self, tokenizer, make, name: str, said: str) -> None:
        make()
        assert refused(Classification(data=name), tokenizer).startswith(f"data: {said}")

    def test_two_files_of_which_either_may_be_meant(self, tokenizer) -> None:
        for name in ("train.csv", "train.jsonl", "train_old.csv"):
            Path(name).write_text(CSV)
        said = "data: the folder '.' has train.csv, train.jsonl; leave one, named train.csv"
        assert refused(Classification(data="."), tokenizer) == said
        Path("train.csv").unlink()
        Path("train.jsonl").rename("train_new.csv")
        said = "data: the folder '.' has train_new.csv, train_old.csv; leave one, named train.csv"
        assert refused(Classification(data="."), tokenizer) == said

    def test_a_shard_that_is_missing(self, tokenizer) -> None:
        for number in (0, 2):
            Path(f"train-{number:05}-of-00003.csv").write_text(CSV)
        said = "data: the folder '.' lacks 1 of 3 shards, such as train-00001-of-00003.csv"
        assert refused(Classification(data="."), tokenizer) == said

    def test_a_saved_data_set_that_is_broken(self, tokenizer) -> None:
        Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}).save_to_disk("saved")
        next(Path("saved").glob("*.arrow")).write_bytes(b"xx")
        assert refused(Classification(data="saved"), tokenizer).startswith(
            "data: the data set in 'saved' cannot be loaded"
        )


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
            (table,) = splits_of(str(file))["train"].files
        except ValueError as error:
            assert str(error).startswith(f"data: {file}") or str(error).startswith(f"data: '{file}'")
            continue
        read += 1
        last = content.count(b"\n") + content.count(b"\r") + 1
        assert all(1 <= problem.line <= last for problem in table.problems)
        assert len(table.rows) == len(table.lines)
        assert table.lines == sorted(table.lines) and len(table.rows.to_list()) == len(table.lines)
    assert 50 < read < 400
