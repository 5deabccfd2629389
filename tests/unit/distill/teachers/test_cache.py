"""The teacher on disk: what is read is what was written, whoever writes, whenever it stops, or it is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from distill import run
from distill.config.loader import ConfigError
from distill.teachers.cache import CachedTeacher, fingerprint
from distill.teachers.row_file import RowFile
from distill.teachers.teacher import FrozenTeacher
from students.recording.signals import Signals
from tests.helpers.families import batch, tiny
from tests.helpers.repositories import save_tokenizer
from tests.helpers.runs import interrupted
from tests.helpers.worlds import save_data, save_teacher

LOGITS = Signals(logits=True)
ASKED = Signals(logits=True, hidden=frozenset({("encoder", 0), ("encoder", 2)}))


def rows_of(data: dict[str, torch.Tensor]) -> list[list[int]]:
    found = [ids[mask.bool()].tolist() for ids, mask in zip(data["input_ids"], data["attention_mask"], strict=True)]
    if "decoder_attention_mask" in data:
        written = zip(data["labels"], data["decoder_attention_mask"], strict=True)
        found = [ids + labels[mask.bool()].tolist() for ids, (labels, mask) in zip(found, written, strict=True)]
    return found


def cached(folder: Path, data: dict, model: torch.nn.Module | None = None, **more: str) -> CachedTeacher:
    return CachedTeacher(FrozenTeacher(model or tiny("bert", layers=2)), rows_of(data), folder, **more)


def of(data: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    return {name: value[rows] for name, value in data.items()} | {"row": torch.tensor(rows)}


def same(left, right) -> bool:
    states = [(left.hidden[site], right.hidden[site]) for site in ASKED.hidden]
    return all(torch.equal(a, b) for a, b in [(left.logits, right.logits), *states])


def test_what_is_read_is_what_was_written_and_near_what_was_said(tmp_path):
    data = batch("bert", size=6)
    teacher = cached(tmp_path, data)
    truth = teacher.teacher.trace(data, ASKED)
    first = teacher.trace(of(data, [0, 1, 2, 3, 4, 5]), ASKED)
    again = teacher.trace(of(data, [0, 1, 2, 3, 4, 5]), ASKED)
    assert (teacher.ran, teacher.read) == (6, 6) and same(first, again)
    torch.testing.assert_close(first.logits, truth.logits, rtol=0, atol=0)
    valid = data["attention_mask"].bool()
    for site, state in truth.hidden.items():
        torch.testing.assert_close(again.hidden[site][valid], state[valid], rtol=1e-3, atol=1e-3)
        assert not again.hidden[site][~valid].any()


def test_rows_come_in_any_order_and_padding(tmp_path):
    data = batch("bert", size=6)
    teacher = cached(tmp_path, data)
    first = teacher.trace(of(data, [0, 1, 2, 3, 4, 5]), ASKED)
    del teacher.teacher.recorder.model  # nobody could run it any more
    for rows in ([5, 0], [3], [2, 2, 4]):
        found = teacher.trace(of(data, rows), ASKED)
        assert torch.equal(found.logits, first.logits[rows])
    left = {name: value.flip(1) if value.ndim == 2 else value for name, value in of(data, [1, 2]).items()}
    left["input_ids"] = torch.zeros_like(left["input_ids"])
    for i, row in enumerate([1, 2]):
        ids = torch.tensor(rows_of(data)[row])
        left["input_ids"][i, -len(ids) :] = ids
    found = teacher.trace(left, ASKED)
    for i, row in enumerate([1, 2]):
        n = len(rows_of(data)[row])
        for site in ASKED.hidden:
            assert torch.equal(found.hidden[site][i, -n:], first.hidden[site][row, :n])


def test_states_too_large_for_the_cache_are_refused(tmp_path):
    data, model = batch("bert", size=2), tiny("bert", layers=2)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.LayerNorm.weight.mul_(1e6)
    teacher = cached(tmp_path, data, model)
    message = r"^cache: encoder layer 2 has states beyond 65,504, .*; write cache: false$"
    with pytest.raises(ValueError, match=message):
        teacher.reserve(data, teacher.teacher.trace(data, ASKED))
    first = Signals(hidden=frozenset({("encoder", 1)}))
    assert teacher.trace(of(data, [0, 1]), first).hidden["encoder", 1].isfinite().all()


def test_outputs_of_tokens_are_kept_without_padding(tmp_path):
    """In float32, bit for bit, in batches of other rows and lengths; zeros at padding."""
    data = batch("bert", size=4)
    teacher = cached(tmp_path, data, tiny("bert", head="lm"))
    truth = teacher.teacher.trace(data, LOGITS).logits
    assert truth.ndim == 3
    teacher.trace(of(data, [0, 1, 2, 3]), LOGITS)
    del teacher.teacher.recorder.model
    for rows in ([0, 1, 2, 3], [3, 1], [2]):
        longest = max(len(rows_of(data)[row]) for row in rows)
        part = {name: value[:, :longest] if value.ndim == 2 else value for name, value in of(data, rows).items()}
        mask = part["attention_mask"].bool()
        found = teacher.trace(part, LOGITS).logits
        assert torch.equal(found[mask], truth[rows][:, :longest][mask]) and not found[~mask].any()


def test_a_decoder_speaks_at_its_own_positions(tmp_path):
    data = batch("t5", size=3, head="lm")
    for name in ("decoder_input_ids", "decoder_attention_mask", "labels"):
        data[name] = data[name][:, :5]
    teacher = cached(tmp_path, data, tiny("t5", head="lm"))
    truth, mask = teacher.teacher.trace(data, LOGITS).logits, data["decoder_attention_mask"].bool()
    for _ in range(2):
        assert torch.equal(teacher.trace(of(data, [0, 1, 2]), LOGITS).logits[mask], truth[mask])
    assert teacher.read == 3
    other = of(data, [0, 1, 2]) | {"labels": data["labels"].clamp(max=4)}
    with pytest.raises(ValueError, match="row 0 does not hold the tokens it was made for"):
        teacher.trace(other, LOGITS)


def test_a_vocabulary_is_the_teachers_own(tmp_path):
    data, states = batch("gpt2", size=4, vocab=1100, head="lm"), Signals(hidden=frozenset({("decoder", 1)}))
    teacher = cached(tmp_path, data, tiny("gpt2", vocab=1100, head="lm"))
    for _ in range(2):
        trace = teacher.trace(of(data, [0, 1]), LOGITS | states)
        assert trace.logits.shape[-1] == 1100 and trace.hidden
    assert (teacher.ran, teacher.read) == (4, 0) and not teacher.folder.exists()
    for _ in range(2):
        teacher.trace(of(data, [0, 1]), states)
    assert (teacher.ran, teacher.read) == (6, 2), "its states are kept where no loss asks for logits"


def test_runs_and_ranks_share_one_folder(tmp_path):
    data = batch("bert", size=6)
    one, two = (cached(tmp_path, data) for _ in range(2))
    one.trace(of(data, [0, 1, 2]), ASKED)
    two.trace(of(data, [3, 4, 5]), ASKED)
    for teacher in (one, two, cached(tmp_path, data)):
        before = teacher.ran
        teacher.trace(of(data, [0, 1, 2, 3, 4, 5]), ASKED)
        assert teacher.ran == before
    assert len(list(tmp_path.iterdir())) == 1


def test_two_that_make_the_files_at_once_get_the_same(tmp_path):
    rows, keys = np.array([2]), np.array([7], np.uint64)
    one, two = (RowFile.create(tmp_path / "logits", 4, (3,), np.dtype(np.float32)) for _ in range(2))
    one.write(rows, keys, np.full((1, 3), 5, np.float32))
    values, whole, damaged = two.read(rows, keys)
    assert (values == 5).all() and whole.all() and not damaged.any()
    assert [file.name for file in tmp_path.iterdir()] == ["logits"]


@pytest.mark.parametrize("change", ["weights", "rows", "precision"])
def test_another_teacher_or_other_rows_or_another_precision_have_a_folder_of_their_own(tmp_path, change):
    data = batch("bert", size=4)
    first = cached(tmp_path, data)
    model = tiny("bert", layers=2)
    other = {**data, "input_ids": data["input_ids"].clone()}
    if change == "weights":
        model.get_parameter("classifier.bias").data[0] += 1
    elif change == "rows":
        other["input_ids"][3, 1] += 1
    second = cached(tmp_path, other, model, precision="bf16-mixed" if change == "precision" else "32-true")
    assert first.folder != second.folder
    assert first.folder == cached(tmp_path, data).folder


def test_a_row_with_other_tokens_is_refused(tmp_path):
    data = batch("bert", size=4)
    teacher = cached(tmp_path, data)
    teacher.trace(of(data, [0, 1]), ASKED)
    wrong = of(data, [0, 1])
    wrong["row"] = torch.tensor([1, 0])
    with pytest.raises(ValueError, match="row 1 does not hold the tokens it was made for"):
        teacher.trace(wrong, ASKED)


def test_attention_is_the_teachers_own(tmp_path):
    data = batch("bert", size=4)
    teacher = cached(tmp_path, data)
    for _ in range(2):
        trace = teacher.trace(of(data, [0, 1]), Signals(attention=frozenset({("encoder", 1)})))
    assert trace.attention and (teacher.ran, teacher.read) == (4, 0)


def test_the_fingerprint_is_of_weights_and_config():
    model, dtype = tiny("bert"), tiny("bert")
    before = fingerprint(model)
    assert before == fingerprint(dtype)
    dtype.half()
    model.config.layer_norm_eps *= 2
    assert len({before, fingerprint(dtype), fingerprint(model)}) == 3


def curve(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


def notes(folder: Path) -> str:
    return " ".join(json.loads((folder / "report.json").read_text())["notes"])


def teacher(materials) -> dict:
    return {"model": str(materials / "teacher"), "cache": True}


def test_the_second_epoch_and_the_second_run_have_no_teacher(materials, tiny_run):
    folder = tiny_run.parent / "runs"
    student = {"losses.relations": None, "quantize": None}
    given = {"teacher": teacher(materials)} | student
    run(tiny_run, name="first", **given)
    assert "ran for 64 rows, and was read from its cache for 64" in notes(folder / "first")
    run(tiny_run, name="second", **given)
    assert "ran for 0 rows, and was read from its cache for 128" in notes(folder / "second")
    assert curve(folder / "first") == curve(folder / "second")
    run(tiny_run, name="without", **student)
    for a, b in zip(curve(folder / "first"), curve(folder / "without"), strict=True):
        assert float(a["train/logits"] or 0) == pytest.approx(float(b["train/logits"] or 0), rel=0.05, abs=1e-3)


def test_a_stop_in_the_first_epoch_changes_nothing(materials, tiny_run, monkeypatch):
    given = {"teacher": teacher(materials), "losses.relations": None, "name": "x"}
    interrupted(monkeypatch, 16, tiny_run, output=str(tiny_run.parent / "elsewhere"), **given)
    interrupted(monkeypatch, 5, tiny_run, **given)
    interrupted(monkeypatch, 16, tiny_run, resume=True, **given)
    assert curve(tiny_run.parent / "runs" / "x") == curve(tiny_run.parent / "elsewhere" / "x")


TOKENS = """\
task: {{name: {name}, data: {folder}/data, max_length: 32, batch_size: 8}}
teacher: {{model: {folder}/teacher, cache: {cache}}}
student: {{kind: Transformer, layers: 1}}
losses:
  labels: {{kind: Labels}}
  logits: {{kind: Logits, temperature: 2.0}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1, enable_progress_bar: false}}
output: {folder}/runs
"""


@pytest.mark.parametrize("name", ["token_classification", "question_answering"])
def test_what_is_said_of_tokens_trains_the_same_from_the_cache(name, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.evaluation.evaluate.latencies", lambda models, batch: dict.fromkeys(models, 1.0))
    (tmp_path / "data").mkdir()
    save_data(name, tmp_path / "data", rows=24)
    save_teacher(name, tmp_path / "teacher")
    for run_name, cache in (("without", "false"), ("first", "true"), ("second", "true")):
        (tmp_path / "x.yaml").write_text(TOKENS.format(name=name, folder=tmp_path, cache=cache))
        run(tmp_path / "x.yaml", name=run_name)
    without, first, second = (curve(tmp_path / "runs" / run_name) for run_name in ("without", "first", "second"))
    assert first == second and "ran for 0 rows, and was read from its cache for 48" in notes(
        tmp_path / "runs" / "second"
    )
    assert len(without) == len(first) and float(without[0]["train/logits"]) > 0
    for a, b in zip(without, first, strict=True):
        for key in a:  # equal but for the rounding of other batches
            assert a[key] == b[key] or float(a[key]) == pytest.approx(float(b[key]), rel=1e-4), key


def test_augmented_rows_are_not_kept(materials, tiny_run):
    with pytest.raises(ConfigError, match="cache: augmented rows are new in every epoch"):
        run(tiny_run, teacher=teacher(materials), **{"task.augment": {"kind": "Masking"}})


VOCABULARY = """\
task: {{name: causal_lm, data: {folder}/data, max_length: 16, batch_size: 8}}
teacher: {{model: {folder}/teacher, cache: true}}
student: {{kind: Transformer, layers: 1}}
losses: {losses}
optimizer: {{lr: 1e-3}}
trainer: {{max_steps: 4, accelerator: cpu, enable_progress_bar: false}}
output: {folder}/runs
"""
NEVER = {
    "logits": "{logits: {kind: Logits}}",
    "top_k": "{labels: {kind: Labels}, logits: {kind: ReverseKL, top_k: 5}}",
    "both": "{hidden: {kind: HiddenMSE}, logits: {kind: Logits}}",
    "attention": "{labels: {kind: Labels}, relations: {kind: Relations, layers: top, heads: 4}}",
}


@pytest.fixture
def language(tmp_path: Path) -> Path:
    """A folder with text and a teacher of 1,100 outputs."""
    (tmp_path / "data").mkdir()
    save_data("causal_lm", tmp_path / "data", rows=24)
    size = save_tokenizer(tmp_path / "teacher")
    assert size < 1100
    GPT2LMHeadModel(GPT2Config(vocab_size=1100, n_layer=2, n_embd=16, n_head=4)).save_pretrained(tmp_path / "teacher")
    return tmp_path


@pytest.mark.parametrize("losses", NEVER)
def test_a_cache_that_would_never_be_read_is_refused(language, losses):
    (language / "x.yaml").write_text(VOCABULARY.format(folder=language, losses=NEVER[losses]))
    what = "attention" if losses == "attention" else "logits over a vocabulary of 1,100"
    message = rf"x\.yaml:2: teacher\.cache: would never be read: the losses look at {what} at every step, .*: false$"
    with pytest.raises(ConfigError, match=message):
        run(language / "x.yaml")
    assert not (language / "runs").exists()


def test_what_a_cache_of_a_language_model_keeps_is_told_before_the_first_step(language, capfd):
    losses = "{hidden: {kind: HiddenMSE}, logits: {kind: Logits, start: 4 steps}}"
    text = VOCABULARY.format(folder=language, losses=losses).replace("max_steps: 4", "max_steps: 6")
    (language / "x.yaml").write_text(text)
    report = run(language / "x.yaml")
    (warning,) = [text for text in report.warnings if text.startswith("teacher.cache: ")]
    assert "at 2 of 6 steps the losses look at logits over a vocabulary of 1,100, which are not kept" in warning
    printed = capfd.readouterr().out.splitlines()
    assert f"warning: {warning}" in printed[: printed.index("x: 6 steps, 2 in an epoch") + 12]
    (cache,) = (language / "runs" / ".teacher-cache").iterdir()
    assert {file.name for file in cache.iterdir()} == {"decoder-0", "decoder-2"}
    # of three epochs the first writes, the second reads, and in the third the teacher runs for its logits
    (note,) = [note for note in report.notes if "from its cache" in note]
    rows = int(note.split("for ")[-1])
    assert 8 < rows <= 16 and note == f"teacher: ran for {2 * rows} rows, and was read from its cache for {rows}"
