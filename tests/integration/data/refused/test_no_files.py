"""Paths that are no file of rows, or not the one that is meant."""

import os
from pathlib import Path

import pytest
from datasets import Dataset

from distill.tasks.kinds.texts import Classification
from tests.helpers.tables import CSV, refused


class TestNoFiles:
    """What is no file, or not the one that is meant."""

    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("make", "name", "message"),
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
    def test_what_is_no_file(self, tokenizer, make, name: str, message: str) -> None:
        make()
        assert refused(Classification(data=name), tokenizer).startswith(f"data: {message}")

    def test_two_files_of_which_either_may_be_meant(self, tokenizer) -> None:
        for name in ("train.csv", "train.jsonl", "train_old.csv"):
            Path(name).write_text(CSV)
        message = "data: the folder '.' has train.csv, train.jsonl; keep one, named train.csv"
        assert refused(Classification(data="."), tokenizer) == message
        Path("train.csv").unlink()
        Path("train.jsonl").rename("train_new.csv")
        message = "data: the folder '.' has train_new.csv, train_old.csv; keep one, named train.csv"
        assert refused(Classification(data="."), tokenizer) == message

    def test_a_shard_that_is_missing(self, tokenizer) -> None:
        for number in (0, 2):
            Path(f"train-{number:05}-of-00003.csv").write_text(CSV)
        message = "data: the folder '.' lacks 1 of 3 shards, such as train-00001-of-00003.csv"
        assert refused(Classification(data="."), tokenizer) == message

    def test_a_saved_data_set_that_is_broken(self, tokenizer) -> None:
        Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}).save_to_disk("saved")
        next(Path("saved").glob("*.arrow")).write_bytes(b"xx")
        assert refused(Classification(data="saved"), tokenizer).startswith(
            "data: the data set in 'saved' cannot be loaded"
        )
