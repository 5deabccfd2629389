"""The teacher on disk: what is read is what was written, whoever writes, whenever it stops, or it is refused."""

from pathlib import Path

import pytest
import torch

from distill.teachers.cache import CachedTeacher, fingerprint
from distill.teachers.teacher import FrozenTeacher
from students.recording.signals import Signals
from tests.helpers.families import batch, tiny

LOGITS = Signals(logits=True)
ASKED = Signals(logits=True, hidden=frozenset({("encoder", 0), ("encoder", 2)}))


def rows_of(data: dict[str, torch.Tensor]) -> list[list[int]]:
    tokens = [ids[mask.bool()].tolist() for ids, mask in zip(data["input_ids"], data["attention_mask"], strict=True)]
    if "decoder_attention_mask" in data:
        written = zip(data["labels"], data["decoder_attention_mask"], strict=True)
        tokens = [ids + labels[mask.bool()].tolist() for ids, (labels, mask) in zip(tokens, written, strict=True)]
    return tokens


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
        trace = teacher.trace(of(data, rows), ASKED)
        assert torch.equal(trace.logits, first.logits[rows])
    left = {name: value.flip(1) if value.ndim == 2 else value for name, value in of(data, [1, 2]).items()}
    left["input_ids"] = torch.zeros_like(left["input_ids"])
    for i, row in enumerate([1, 2]):
        ids = torch.tensor(rows_of(data)[row])
        left["input_ids"][i, -len(ids) :] = ids
    trace = teacher.trace(left, ASKED)
    for i, row in enumerate([1, 2]):
        n = len(rows_of(data)[row])
        for site in ASKED.hidden:
            assert torch.equal(trace.hidden[site][i, -n:], first.hidden[site][row, :n])


def test_states_too_large_for_the_cache_are_refused(tmp_path):
    data, model = batch("bert", size=2), tiny("bert", layers=2)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.LayerNorm.weight.mul_(1e6)
    teacher = cached(tmp_path, data, model)
    message = r"^cache: encoder layer 2 has states beyond 65,504, .*; write cache: false$"
    with pytest.raises(ValueError, match=message):
        teacher.allocate(data, teacher.teacher.trace(data, ASKED))
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
        logits = teacher.trace(part, LOGITS).logits
        assert torch.equal(logits[mask], truth[rows][:, :longest][mask]) and not logits[~mask].any()


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
    with pytest.raises(ValueError, match="the tokens of row 0 are not those it was made for"):
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
    first, second = (cached(tmp_path, data) for _ in range(2))
    first.trace(of(data, [0, 1, 2]), ASKED)
    second.trace(of(data, [3, 4, 5]), ASKED)
    for teacher in (first, second, cached(tmp_path, data)):
        before = teacher.ran
        teacher.trace(of(data, [0, 1, 2, 3, 4, 5]), ASKED)
        assert teacher.ran == before
    assert len(list(tmp_path.iterdir())) == 1


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
    with pytest.raises(ValueError, match="the tokens of row 1 are not those it was made for"):
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
