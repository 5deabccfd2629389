"""Answers as pieces of a context: where the labels point, what is predicted, and how that is judged."""

from pathlib import Path

import pytest
import torch
from torchmetrics.text import SQuAD
from transformers import PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.data.batches import Collator
from distill.tasks.kinds.spans import MAX_ANSWER_TOKENS, SPAN_BASE, QuestionAnswering
from students.recording.sparse_lm_head import IGNORED
from tests.helpers.tables import write

CONTEXT = "Great, moving film-script; (warm) endings: it's the actor's comedy!"


def row(answer: str, context: str = CONTEXT, question: str = "is it this?", start: int | None = None) -> dict:
    answers = {"text": [answer], "answer_start": [context.index(answer) if start is None else start]}
    return {"question": question, "context": context, "answers": answers}


def encoded(rows: list[dict], tokenizer: PreTrainedTokenizerBase, **given: int) -> tuple[QuestionAnswering, dict]:
    task = QuestionAnswering(data="x", **given)
    task.tokenizer = tokenizer
    return task, task.encode({name: [row[name] for row in rows] for name in task.columns})


def of_rows(folder: Path, rows: list[dict], tokenizer: PreTrainedTokenizerBase, **given: int) -> tuple:
    """The task after it has read the rows, and one batch of all validation rows in their order."""
    for split in ("train", "validation"):
        write(folder / f"{split}.parquet", rows)
    task = QuestionAnswering(data=str(folder), **given)
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
    return task, Collator(tokenizer)(sorted(rows, key=lambda row: row["row"]))


# Where the labels point


@pytest.mark.parametrize(
    "answer",
    ["Great", "Great, moving", "moving film", "film-script", "(warm)", "warm", "it's", "actor", "actor's comedy",
     "comedy!", "!", CONTEXT],
)  # fmt: skip
def test_labels_are_the_tokens_of_the_answer(answer, tokenizer):
    task, encoding = encoded([row(answer)], tokenizer)
    (begin, end), ids = encoding["labels"][0], encoding["input_ids"][0]
    wanted = tokenizer(answer, add_special_tokens=False)["input_ids"]
    assert ids[begin : end + 1] == wanted
    assert CONTEXT[encoding["begins"][0][begin] : encoding["ends"][0][end]] == answer
    number = torch.tensor(encoding["begins"][0][begin] * SPAN_BASE + encoding["ends"][0][end])
    assert task.prediction_text(number, row(answer)) == answer == task.label_text(row(answer))


@pytest.mark.parametrize(
    ("answer", "whole"), [("ilm-scri", "film-script"), ("rea", "Great"), ("oving fil", "moving film")]
)
def test_an_answer_inside_of_words_is_the_least_piece_that_holds_it(answer, whole, tokenizer):
    _, encoding = encoded([row(answer)], tokenizer)
    (begin, end), (begins, ends) = encoding["labels"][0], (encoding["begins"][0], encoding["ends"][0])
    span, start = CONTEXT[begins[begin] : ends[end]], CONTEXT.index(answer)
    assert answer in span and span in whole
    assert ends[begin] > start and begins[end] < start + len(answer), "no token less would do"


def test_blanks_around_an_answer_are_not_of_it(tokenizer):
    with_blanks = "the great film is   warm  "
    for answer, span in ((" great film ", "great film"), ("  warm  ", "warm")):
        _, encoding = encoded([row(answer, with_blanks)], tokenizer)
        begin, end = encoding["labels"][0]
        assert with_blanks[encoding["begins"][0][begin] : encoding["ends"][0][end]] == span


def test_the_same_word_in_the_question_is_not_the_answer(tokenizer):
    _, encoding = encoded([row("film", "one film", "is this a film")], tokenizer)
    begin, end = encoding["labels"][0]
    assert begin == end == len(encoding["input_ids"][0]) - 2


def test_an_answer_that_is_cut_off_is_not_asked_for(tokenizer):
    context = "the good film and " * 10 + "one warm ending"
    rows = [row("one warm ending", context), row("the", context)]
    # of the third the first half is left
    truncated = encoded([row("the", context)], tokenizer, max_length=20)[1]
    last = max(truncated["ends"][0])
    rows.append(row(context[last - 4 : last + 4], context, start=last - 4))
    _, encoding = encoded(rows, tokenizer, max_length=20)
    assert [len(ids) for ids in encoding["input_ids"]] == [20] * 3
    assert encoding["labels"][0] == encoding["labels"][2] == [IGNORED] * 2 and encoding["labels"][1][0] > 0


# What is predicted


def brute(logits: torch.Tensor, inside: list[bool]) -> tuple[int, int]:
    """The likeliest of all pieces of the context."""
    places = [i for i, yes in enumerate(inside) if yes]
    pieces = [(b, e) for b in places for e in places if b <= e < b + MAX_ANSWER_TOKENS]
    return max(pieces, key=lambda piece: float(logits[0, piece[0]] + logits[1, piece[1]]))


def test_of_a_long_question_nothing_is_cut_off(tokenizer):
    rows = [row("warm", "warm ending", "film " * 12)]
    ids = encoded(rows, tokenizer, max_length=16)[1]["input_ids"][0]
    assert len(ids) == 16 and tokenizer.decode(ids).count("film") == 12


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_likeliest_piece_of_the_context(tokenizer, tmp_path, scale):
    long = " ".join(["film", "and", "music"] * 25)
    rows = [row("music", long), row("actor"), row("film", "one film"), row("film", long, "is the plot dull or not")]
    task, batch = of_rows(tmp_path, rows, tokenizer, max_length=100)
    assert batch["input_ids"].shape[1] > 2 * MAX_ANSWER_TOKENS
    draw = torch.Generator().manual_seed(0)
    for _ in range(10):
        logits = task.select_logits(scale * torch.randn(*batch["input_ids"].shape, 2, generator=draw), batch)
        for i, piece in enumerate(zip(*task.best_span(logits, batch), strict=True)):
            assert piece == brute(logits[i], (batch["ends"][i] > 0).tolist())


def test_no_piece_is_backwards_nor_outside_nor_too_long(tokenizer, tmp_path):
    """Not even where a model is sure of it."""
    task, batch = of_rows(tmp_path, [row("music", "music " * 60)] * 2, tokenizer, max_length=100)
    context = (batch["ends"][0] > 0).nonzero().flatten().tolist()
    for begin, end in ((context[50], context[3]), (0, context[5]), (1, 2), (context[0], context[-1])):
        logits = torch.zeros(*batch["input_ids"].shape, 2)
        logits[:, begin, 0] = logits[:, end, 1] = 40.0
        begins, ends = task.best_span(task.select_logits(logits, batch), batch)
        ((b, e),) = set(zip(begins.tolist(), ends.tolist(), strict=True))
        assert b in context and e in context and 0 <= e - b < MAX_ANSWER_TOKENS


def test_padding_changes_nothing(tokenizer, tmp_path):
    rows = [row("music", "music and film " * 20), row("actor"), row("film", "one film")]
    task, batch = of_rows(tmp_path, rows, tokenizer, max_length=100)
    logits = torch.randn(*batch["input_ids"].shape, 2, generator=torch.Generator().manual_seed(3))
    all_logits = task.select_logits(logits, batch)
    for i in range(3):
        size = int(batch["attention_mask"][i].sum())
        alone = {name: value[i : i + 1] for name, value in batch.items()}
        alone = {name: v[:, :size] if v.ndim == 2 and name != "labels" else v for name, v in alone.items()}
        part = task.select_logits(logits[i : i + 1, :size], alone)
        assert torch.equal(task.predictions(part, alone), task.predictions(all_logits, batch)[i : i + 1])
        torch.testing.assert_close(task.confidences(part, alone), task.confidences(all_logits, batch)[i : i + 1])
        torch.testing.assert_close(part.log_softmax(-1)[0], all_logits.log_softmax(-1)[i, :, :size])


def test_certainty_is_the_probability_of_both_ends(tokenizer, tmp_path):
    task, batch = of_rows(tmp_path, [row("actor")] * 2, tokenizer)
    logits = task.select_logits(
        torch.randn(*batch["input_ids"].shape, 2, generator=torch.Generator().manual_seed(3)), batch
    )
    for i, (begin, end) in enumerate(zip(*task.best_span(logits, batch), strict=True)):
        p = logits[i].double().softmax(-1)
        assert float(task.confidences(logits, batch)[i]) == pytest.approx(float(p[0, begin] * p[1, end]), rel=1e-5)


# How it is judged


def pointing(batch: dict, pieces: list[tuple[int, int]]) -> torch.Tensor:
    """Outputs of a model that is sure of these pieces."""
    logits = torch.zeros(*batch["input_ids"].shape, 2)
    for i, (begin, end) in enumerate(pieces):
        logits[i, begin, 0] = logits[i, end, 1] = 20.0
    return logits


def test_exact_match_and_f1_by_hand(tokenizer, tmp_path):
    context = "the warm film and the dull plot"
    rows = [row("warm film", context), row("dull plot", context), row("the warm film", context)]
    rows[1]["answers"] = {"text": ["dull plot", "warm film and the dull"], "answer_start": [22, 4]}
    task, batch = of_rows(tmp_path, rows, tokenizer)
    first = (batch["ends"][0] > 0).nonzero().flatten()[0]
    # "warm film"; "film and the dull"; "film": articles do not count
    pieces = [(first + 1, first + 2), (first + 2, first + 5), (first + 2, first + 2)]
    metrics = task.metrics()
    logits = task.select_logits(pointing(batch, pieces), batch)
    task.update_metrics(metrics, logits, batch)
    # The second against the better of its answers: 3 common words of 3 and 4. The third: 1 of 1 and 2.
    wanted = {"exact_match": 1 / 3, "f1": (1 + 2 * 3 / 7 + 2 / 3) / 3}
    assert {name: float(value) for name, value in metrics.compute().items()} == pytest.approx(wanted)
    assert [
        task.prediction_text(number, row) for number, row in zip(task.predictions(logits, batch), rows, strict=True)
    ] == [
        "warm film",
        "film and the dull",
        "film",
    ]


def test_as_torchmetrics_judges_the_words(tokenizer, tmp_path):
    rows = [row(answer) for answer in ("Great", "moving film", "actor's comedy", "it's", "warm")] * 4
    for i, record in enumerate(rows):
        record["question"] = "is " + "it " * (i % 7 + 1)  # rows of many lengths
    task, batch = of_rows(tmp_path, rows, tokenizer)
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(*batch["input_ids"].shape, 2, generator=draw)
    for i in range(0, len(rows), 2):
        logits[i, batch["labels"][i, 0], 0] = logits[i, batch["labels"][i, 1], 1] = 10.0
    logits, metrics, reference = task.select_logits(logits, batch), task.metrics(), SQuAD()
    for part in torch.randperm(len(rows), generator=draw).split(6):
        task.update_metrics(metrics, logits[part], {name: value[part] for name, value in batch.items()})
    answers = [task.prediction_text(n, task.validation[i]) for i, n in enumerate(task.predictions(logits, batch))]
    reference.update(
        [{"prediction_text": text, "id": str(i)} for i, text in enumerate(answers)],
        [{"answers": record["answers"], "id": str(i)} for i, record in enumerate(rows)],
    )
    wanted = {name: float(value) / 100 for name, value in reference.compute().items()}
    assert 0.4 < wanted["exact_match"] < 0.9
    assert {name: float(value) for name, value in metrics.compute().items()} == pytest.approx(wanted)


def test_a_question_whose_answer_was_cut_off_counts_as_not_answered(tokenizer, tmp_path):
    context = "the good film and " * 10 + "one warm ending"
    rows = [row("one warm ending", context), row("good film", context)]
    task, batch = of_rows(tmp_path, rows, tokenizer, max_length=20)
    assert (batch["labels"] == IGNORED).all(1).tolist() == [True, False]
    metrics = task.metrics()
    task.update_metrics(
        metrics, task.select_logits(pointing(batch, [(8, 9), tuple(batch["labels"][1].tolist())]), batch), batch
    )
    assert {name: float(value) for name, value in metrics.compute().items()} == {"exact_match": 0.5, "f1": 0.5}
