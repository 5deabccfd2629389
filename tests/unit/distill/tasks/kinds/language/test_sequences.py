"""Sequence to sequence: what the decoder reads and is asked, what a model writes by itself, and how that is judged."""

from pathlib import Path

import pytest
import torch
from sacrebleu.metrics import BLEU
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.data.batches import Collator
from distill.tasks.kinds.language.sequences import Seq2Seq
from distill.tasks.writing import greedy_generate
from losses.pairs.attention import AttentionKL
from losses.states.hidden import HiddenMSE
from prune_schedules.schedule import Timeline
from students.recording.model_io import model_inputs
from students.recording.trace import Recorder
from tests.helpers.families import tiny
from tests.helpers.tables import refused, write
from tests.helpers.worlds import ready_task, save_data, save_teacher


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("seq2seq")
    (folder / "data").mkdir()
    save_data("seq2seq", folder / "data")
    save_teacher("seq2seq", folder / "teacher", layers=2)
    return folder


@pytest.fixture
def ready(world) -> tuple[Seq2Seq, list[dict], Collator]:
    """The task, its validation rows, and what makes batches of them."""
    task, tokenizer = ready_task("seq2seq", world / "data"), AutoTokenizer.from_pretrained(world / "teacher")
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
    return task, list(rows), Collator(tokenizer, decoder_start=0)


def test_the_decoder_reads_what_it_is_asked_moved_by_one(ready):
    task, rows, collate = ready
    batch = collate(rows)
    lengths = [len(row["labels"]) for row in rows]
    assert len(set(lengths)) > 1, "there is padding"
    for labels, read, mask, length in zip(
        batch["labels"], batch["decoder_input_ids"], batch["decoder_attention_mask"], lengths, strict=True
    ):
        assert labels[length:].eq(-100).all() and labels[length - 1] == task.end
        assert read[0] == 0 and torch.equal(read[1:length], labels[: length - 1])
        assert mask.sum() == length and mask[:length].all()
    text = task.tokenizer.decode(rows[0]["labels"], skip_special_tokens=True)
    assert text == task.validation[rows[0]["row"]]["right"]


def test_what_is_written_is_what_transformers_would_generate(ready, world):
    task, rows, collate = ready
    batch, model = collate(rows), AutoModelForSeq2SeqLM.from_pretrained(world / "teacher").eval()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = task.end, 0
    with torch.no_grad():
        generated = greedy_generate(
            lambda given: model(**model_inputs(model, given)).logits, batch, task.end, max_tokens=12
        )
        expected = model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], do_sample=False, max_new_tokens=12
        )[:, 1:]
    for tokens, wanted in zip(generated.tolist(), expected.tolist(), strict=True):
        cut = [ids[: ids.index(task.end) + 1] if task.end in ids else ids for ids in (tokens, wanted)]
        assert cut[0] == cut[1]


def test_writing_ends_at_the_end_or_when_it_is_too_long():
    scripts = torch.tensor([[5, 6, 9, 7, 7], [5, 9, 7, 7, 7], [5, 5, 5, 5, 5]])

    batches = []

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        assert "decoder_attention_mask" not in batch
        at = batch["decoder_input_ids"].shape[1]
        assert (batch["labels"] != -100).nonzero()[:, 1].tolist() == [at - 1] * len(batch["row"]), (
            "only what comes next"
        )
        batches.append(batch["row"].tolist())
        return torch.nn.functional.one_hot(scripts[batch["row"], :at], 10).float()

    batch = {"decoder_input_ids": torch.zeros(3, 4).long(), "labels": scripts, "decoder_attention_mask": scripts}
    batch["row"] = torch.arange(3)
    assert greedy_generate(predict, batch, end=9, max_tokens=4).tolist() == [[5, 6, 9, 9], [5, 9, 9, 9], [5, 5, 5, 5]]
    assert batches == [[0, 1, 2], [0, 1, 2], [0, 2], [2]], "who has ended is not asked again"


def test_bleu_is_that_of_sacrebleu(ready):
    task, _, _ = ready
    texts = ["a warm film.", "the great drama, and music", "one sharp plot"]
    truths = ["a warm film.", "the great music and the drama", "one sharp script of the plot"]
    message = [task.tokenizer(text)["input_ids"] for text in texts]
    longest = max(map(len, message))
    script = torch.tensor([ids + [task.end] * (longest - len(ids)) for ids in message])
    written = [task.tokenizer.decode(ids, skip_special_tokens=True) for ids in message]
    task.validation = [{"right": truth} for truth in truths]

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        at = batch["decoder_input_ids"].shape[1]
        return torch.nn.functional.one_hot(script[batch["row"], :at], len(task.tokenizer)).float()

    metrics = task.metrics()
    for rows_of_batch in ([0, 1], [2]):
        start = torch.zeros(len(rows_of_batch), 1).long()
        batch = {"row": torch.tensor(rows_of_batch), "decoder_input_ids": start, "input_ids": start}
        task.update_generation_metrics(metrics, predict, batch)
    wanted = BLEU().corpus_score(written, [truths]).score
    assert float(metrics["bleu"].compute()) == pytest.approx(wanted / 100, abs=1e-5) and wanted > 10


@pytest.mark.parametrize("stack", ["encoder", "decoder", "cross"])
def test_losses_look_at_the_tokens_of_their_stack(stack):
    teacher, student = (tiny("t5", layers=layers, head="lm").eval() for layers in (2, 1))
    loss = AttentionKL(stack=stack) if stack == "cross" else HiddenMSE(stack=stack)
    loss.setup(student.config, teacher.config)
    values = loss.at(0, Timeline(1, 1))
    draw = torch.Generator().manual_seed(0)
    rows = [
        {"input_ids": torch.randint(5, 90, (n,), generator=draw), "labels": torch.randint(5, 90, (m,), generator=draw)}
        for n, m in ((6, 3), (3, 7))
    ]
    made = [
        {"input_ids": row["input_ids"].tolist(), "attention_mask": [1] * len(row["input_ids"])}
        | {"labels": row["labels"].tolist(), "decoder_attention_mask": [1] * len(row["labels"])}
        for row in rows
    ]

    class Pads:
        pad_token_id, pad_token_type_id = 0, 0

    def computed(rows: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = Collator(Pads, decoder_start=0)(rows)
        with torch.no_grad():
            traces = [
                Recorder(model).trace(batch, needs)
                for model, needs in ((student, loss.student_signals), (teacher, loss.teacher_signals))
            ]
        return loss(*traces, batch, values)

    together, alone = computed(made), [computed([row]) for row in made]
    torch.testing.assert_close(together[0], alone[0][0] + alone[1][0], rtol=1e-4, atol=1e-5)
    assert together[1] == alone[0][1] + alone[1][1] == (9 if stack == "encoder" else 10)


def test_mistakes_are_told(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    file = write(tmp_path / "x.jsonl", [{"en": "a", "de": "b"}, {"en": "c", "de": ""}])
    assert refused(Seq2Seq(data=file, source="en", target="fr"), tokenizer) == (
        "target: there is no column 'fr'; there are en, de"
    )
    assert refused(Seq2Seq(data=file, source="en", target="de"), tokenizer).endswith("line 2: 'de' is empty")
    with pytest.raises(ValueError, match="augment: the target of a changed source is not known"):
        Seq2Seq(data=file, source="en", target="de", augment={"a": None})
