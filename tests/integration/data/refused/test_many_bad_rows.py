"""Several bad rows, and files that do not go together, are told in one line."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from distill.tasks.kinds.texts import Classification
from tests.helpers.tables import refused


def test_all_kinds_of_bad_rows_are_told_at_once(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    for split, label in (("train", 1), ("validation", 2)):
        bad = f'good,{label}\nx,y,0\n"a" b,0\n,1\nbad,0\n"never\n'
        (tmp_path / f"{split}.csv").write_text("text,label\ngood,1\nbad,0\n" + bad)
    error = refused(task := Classification(data=str(tmp_path)), tokenizer)
    train, validation = error.removeprefix("data: ").split(f"; {tmp_path}/validation.csv ")
    for part in (train.removeprefix(f"{tmp_path}/train.csv "), validation):
        for line in (
            "line 5: 3 columns",
            "line 6: a quoted text goes on",
            "line 7: 'text' is empty",
            "line 9: a quote",
        ):
            assert line in part
    assert "line 4: 'label' is 2, not one of LABEL_0, LABEL_1; line 5" in validation and "line 4" not in train
    assert [(file.rows_read, file.rows_refused) for file in task.facts.files] == [(8, 4), (8, 5)]


def test_of_many_bad_rows_ten_are_shown(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    (tmp_path / "x.csv").write_text("text,label\n" + "good,1\n,0\n" * 30)
    lines = "3, 5, 7, 9, 11, 13, 15, 17, 19, 21"
    message = f"data: {tmp_path}/x.csv line {lines}: 'text' is empty (and 20 more lines)"
    assert refused(Classification(data=str(tmp_path / "x.csv")), tokenizer) == message


NUMBERS = "text,label\na,1\nb,0\n"


@pytest.mark.parametrize(
    ("train", "validation", "message"),
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
def test_files_that_do_not_go_together(tmp_path: Path, tokenizer, train: str, validation: str, message: str) -> None:
    (tmp_path / "train.csv").write_text(train)
    (tmp_path / "validation.csv").write_text(validation)
    assert refused(Classification(data=str(tmp_path)), tokenizer).startswith(f"data: {tmp_path}/{message}")
