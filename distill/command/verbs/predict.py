"""Answer about texts, or about the rows of a file, with the student of a finished run."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from distill.command.options import number_from_1, refuse_rest
from distill.config.errors import ConfigError
from distill.training.callbacks.display.quiet import silence_libraries

if TYPE_CHECKING:
    from distill.export.serving.predictor import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", help="the folder of a run, or of its student alone")
    parser.add_argument("texts", nargs="*", help="texts; of a model that reads two columns, one text for each in turn")
    parser.add_argument("--file", help="a csv, tsv, json, jsonl or parquet file with the columns of training")
    parser.add_argument("--output", help="the file to write, csv or jsonl; by default lines of JSON are printed")
    parser.add_argument("--task", help="one of several tasks")
    parser.add_argument("--runtime", choices=["onnxruntime", "torch"], help="by default the exported file, if any")
    parser.add_argument("--batch_size", type=number_from_1, default=32, help="texts computed together [32]")


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Print or write an answer for each text or row, and return the exit code.

    Raises:
        ConfigError: if run, texts or file cannot be used.
    """
    refuse_rest(rest)
    if bool(options.texts) == bool(options.file):
        raise ConfigError("distill predict: give texts, or a file with --file")
    silence_libraries()
    from distill.export.serving.predictor import load

    predictor = load(options.run, options.runtime, options.task)
    rows = _rows_of_file(options.file, predictor) if options.file else _rows_of_texts(options.texts, predictor)
    try:
        answers = predictor.answers(rows, options.batch_size)
    except (TypeError, ValueError) as error:  # of the tokenizer, at what is no text
        raise ConfigError(f"distill predict: {error}") from error
    results = [row | answer for row, answer in zip(rows, answers, strict=True)]
    if options.output is None:
        _write_json(results, sys.stdout)
        return 0
    with open(options.output, "w", encoding="utf-8", newline="") as file:
        (_write_csv if Path(options.output).suffix == ".csv" else _write_json)(results, file)
    return 0


def _rows_of_texts(texts: list[str], predictor: Predictor) -> list[dict[str, Any]]:
    width = len(predictor.columns)
    if len(texts) % width:
        raise ConfigError(f"distill predict: {len(texts)} texts; a row has {width}: {', '.join(predictor.columns)}")
    return [dict(zip(predictor.columns, texts[i : i + width], strict=True)) for i in range(0, len(texts), width)]


def _rows_of_file(name: str, predictor: Predictor) -> list[dict[str, Any]]:
    """Return the input columns of all rows of a file.

    Raises:
        ConfigError: if the file cannot be read, lacks a column, or has a row without a text.
    """
    from distill.data.files import read_file
    from distill.tasks.columns import list_names

    try:
        table = read_file(Path(name), "rows")
    except ValueError as error:
        raise ConfigError(str(error).removeprefix("data: ")) from error
    if table.problems:
        raise ConfigError(f"{name}:{table.problems[0].line}: {table.problems[0].message}")
    columns, missing = predictor.columns, [c for c in predictor.columns if c not in table.rows.column_names]
    if missing:
        raise ConfigError(f"{name}: there is no column {missing[0]!r}; there are {list_names(table.rows.column_names)}")
    rows = table.rows.select_columns(columns).to_list()
    for number, row in enumerate(rows):
        if empty := next((column for column in columns if not row[column]), None):
            line = table.lines[number] if table.lines else number + 1
            raise ConfigError(f"{name}:{line}: {empty!r} is empty")
    return rows


def _write_json(results: Iterable[dict[str, Any]], file: TextIO) -> None:
    for result in results:
        file.write(json.dumps(result, ensure_ascii=False) + "\n")


def _write_csv(results: list[dict[str, Any]], file: TextIO) -> None:
    """Write the values that are texts or numbers; lists and mappings as JSON."""
    writer = csv.DictWriter(file, list(results[0]) if results else [])
    writer.writeheader()
    for result in results:
        writer.writerow({key: _cell(value) for key, value in result.items()})


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
