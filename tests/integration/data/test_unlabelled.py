"""Unlabelled texts: the student learns the teacher's outputs, and losses that need a label skip them."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from distill import run
from distill.config.loader import ConfigError
from distill.data import prepare_data
from distill.tasks.kinds.texts import Classification, Regression
from losses.outputs.decoupled import DKD
from losses.outputs.labels import Labels
from losses.outputs.logits import Logits
from losses.outputs.mse import LogitsMSE
from prune_schedules.schedule import Timeline
from students.recording.signals import Trace
from tests.helpers.families import tiny_config
from tests.helpers.tables import ROWS, labelled, write

MORE = [{"text": f"one {word} film", "other": 1} for word in ("flat", "great", "lazy")]
UNKNOWN = {"classes": torch.tensor([0, -1, 2, -1, 1]), "numbers": torch.tensor([0.5, torch.nan, 2.0, torch.nan, 1.0])}


@pytest.mark.parametrize("kind", [Classification, Regression])
def test_they_are_trained_on_and_not_validated_on(tmp_path: Path, tokenizer, kind) -> None:
    write(tmp_path / "more.jsonl", MORE)
    task = kind(data=labelled(tmp_path, [0, 1, 1, 0]), text="text", unlabelled=str(tmp_path / "more.jsonl"))
    rows = prepare_data(task, tokenizer)
    assert (len(rows["train"]), len(rows["validation"])) == (7, 4)
    labels = torch.tensor(rows["train"]["labels"][:]).float()
    assert labels[:4].tolist() == [0, 1, 1, 0]
    assert (labels[4:].isnan() if kind is Regression else labels[4:] == -1).all()
    read = [tokenizer.decode(ids, skip_special_tokens=True) for ids in rows["train"]["input_ids"]]
    assert read[4:] == [row["text"] for row in MORE]


def terms_of_rows(loss, labels: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum and count over the kept rows."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 1 if labels.is_floating_point() else 3, generator=draw)[mask] for _ in range(2))
    batch = {"input_ids": torch.ones(len(mask), 4, dtype=torch.long)[: len(student)], "labels": labels[mask]}
    terms = loss(Trace(student, {}, {}, {}), Trace(teacher, {}, {}, {}), batch, loss.at(0, Timeline(10, 10)))
    assert terms[1] == loss.count(batch)
    return terms


@pytest.mark.parametrize(("loss", "labels"), [(Labels, "classes"), (DKD, "classes"), (Labels, "numbers")])
def test_what_needs_a_label_passes_them_by(loss, labels) -> None:
    config = tiny_config("bert")
    made = loss()
    made.setup(config, config)
    everything, known = torch.ones(5).bool(), torch.tensor([True, False, True, False, True])
    for with_unlabelled, labelled_only in zip(
        terms_of_rows(made, UNKNOWN[labels], everything), terms_of_rows(made, UNKNOWN[labels], known), strict=True
    ):
        torch.testing.assert_close(with_unlabelled, labelled_only)
    assert terms_of_rows(made, UNKNOWN[labels], everything)[1] == 3


@pytest.mark.parametrize(("loss", "labels"), [(Logits, "classes"), (LogitsMSE, "numbers")])
def test_what_looks_at_the_teacher_alone_learns_from_them(loss, labels) -> None:
    config = tiny_config("bert")
    made = loss()
    made.setup(config, config)
    total, count = terms_of_rows(made, UNKNOWN[labels], torch.ones(5).bool())
    assert count == 5 and total > 0


def test_a_run_with_them(tiny_run: Path, tmp_path: Path) -> None:
    texts = [{"sentence": f"this {word} movie"} for word in ("warm", "dull") * 8]
    file = tmp_path / "more.parquet"
    Dataset.from_list(texts).to_parquet(file)
    losses = {"labels": {"kind": "Labels"}, "logits": {"kind": "Logits"}}
    given = {"task.text": "sentence", "task.unlabelled": str(file), "losses": losses, "prune": None, "quantize": None}
    report = run(tiny_run, **given)
    assert report.timeline[0]["stop_step"] == 2 * (64 + 16) // 8


@pytest.mark.parametrize(
    ("rows", "given", "message"),
    [
        (
            MORE,
            {"teacher": None},
            "task.unlabelled: needs a teacher, from whose outputs the student learns on these texts",
        ),
        ([{"words": "x"}, {"words": "y"}], {}, "task.unlabelled: there is no column 'sentence'; there are words"),
        ([{"sentence": "x"}, {"sentence": ""}], {}, "unlabelled: .*more.jsonl line 2: 'sentence' is empty"),
        (None, {}, "task.unlabelled: there is no file or folder"),
    ],
)
def test_a_mistake_with_them(tiny_run: Path, tmp_path: Path, rows, given, message) -> None:
    if rows:
        write(tmp_path / "more.jsonl", rows)
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, **({"task.unlabelled": str(tmp_path / "more.jsonl"), "task.text": "sentence"} | given))


def test_a_file_of_one_split_may_be_named(tmp_path: Path, tokenizer) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    file = write(tmp_path / "unsupervised.csv", ROWS)
    task = Classification(data=labelled(folder, [0, 1]), text="text", unlabelled=file)
    assert len(prepare_data(task, tokenizer)["train"]) == 6
