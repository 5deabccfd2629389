"""A damaged cache is never learnt from: what is not as it was written is missing, and the teacher runs again for it."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distill import run
from distill.config.loader import ConfigError
from distill.teachers.cache import CachedTeacher
from distill.teachers.row_file import HEADER, RowFile
from students.recording.signals import Signals
from tests.helpers.families import batch, tiny
from tests.helpers.runs import ROOT
from tests.integration.teachers.test_cached_runs import curve, notes, teacher
from tests.unit.distill.teachers.test_cache import ASKED, cached, of, same

ROWS = [0, 1, 2, 3]


def record(folder: Path, name: str) -> int:
    """The bytes of a row in a file."""
    return ((folder / name).stat().st_size - HEADER) // len(ROWS)


def flip(folder: Path, name: str, offset: int) -> None:
    with (folder / name).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def cut_off(folder: Path) -> None:
    os.truncate(folder / "logits", HEADER + record(folder, "logits") * 2 + 3)


def cut_to_nothing(folder: Path) -> None:
    os.truncate(folder / "encoder-2", 0)


def make_longer(folder: Path) -> None:
    with (folder / "encoder-0").open("ab") as file:
        file.write(b"\0" * 4096)


def flip_a_value(folder: Path) -> None:
    flip(folder, "encoder-2", HEADER + record(folder, "encoder-2") + 20)


def flip_a_checksum(folder: Path) -> None:
    flip(folder, "logits", HEADER + 3 * record(folder, "logits"))


def damage_the_header(folder: Path) -> None:
    (folder / "logits").write_bytes(b"?" * HEADER + (folder / "logits").read_bytes()[HEADER:])


def swap_rows(folder: Path) -> None:
    size, data = record(folder, "logits"), bytearray((folder / "logits").read_bytes())
    first, second = slice(HEADER, HEADER + size), slice(HEADER + 2 * size, HEADER + 3 * size)
    data[first], data[second] = data[second], data[first]
    (folder / "logits").write_bytes(data)


def exchange_layers(folder: Path) -> None:
    (folder / "encoder-0").rename(folder / "x")
    (folder / "encoder-2").rename(folder / "encoder-0")
    (folder / "x").rename(folder / "encoder-2")


def another_signal(folder: Path) -> None:
    (folder / "logits").write_bytes((folder / "encoder-0").read_bytes())


def write_a_nan(folder: Path) -> None:
    with (folder / "logits").open("r+b") as file:
        file.seek(HEADER + 8)
        file.write(np.full(2, np.nan, np.float32).tobytes())


def zero_a_row(folder: Path) -> None:
    with (folder / "encoder-2").open("r+b") as file:
        file.seek(HEADER + 8)
        file.write(b"\0" * (record(folder, "encoder-2") - 8))


DAMAGES = {  # and how many rows do not match their checksum; of a file of another size nothing is read
    cut_off: 0,
    cut_to_nothing: 0,
    make_longer: 0,
    damage_the_header: 0,
    flip_a_value: 1,
    flip_a_checksum: 1,
    swap_rows: 2,
    exchange_layers: 4,  # the first of the two files has no row left, and the other is not read
    another_signal: 4,
    write_a_nan: 1,
    zero_a_row: 1,
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_was_damaged_is_asked_of_the_teacher_again(tmp_path, damage: Callable[[Path], None]) -> None:
    data = batch("bert", size=len(ROWS))
    first = cached(tmp_path, data)
    expected = first.trace(of(data, ROWS), ASKED)
    damage(first.folder)
    again = cached(tmp_path, data)
    assert same(again.trace(of(data, ROWS), ASKED), expected)
    assert (again.ran, again.read, again.damaged) == (4, 0, DAMAGES[damage])
    assert ("damaged" in again.note()) == bool(DAMAGES[damage])
    mended = cached(tmp_path, data)
    assert same(mended.trace(of(data, ROWS), ASKED), expected) and (mended.ran, mended.read) == (0, 4)
    assert len(list(first.folder.iterdir())) == 3


def test_a_file_cut_short_while_it_is_read_is_no_end_of_the_process(tmp_path):
    data = batch("bert", size=len(ROWS))
    reader = cached(tmp_path, data)
    expected = reader.trace(of(data, ROWS), ASKED)
    assert reader.trace(of(data, ROWS), ASKED) and reader.read == 4  # it is open
    os.truncate(reader.folder / "logits", HEADER)
    assert same(reader.trace(of(data, ROWS), ASKED), expected) and reader.ran == 8


def test_numbers_that_are_not_finite_are_not_kept(tmp_path):
    """Of the row alone, and each time the teacher is asked again."""
    data, model = batch("bert", size=len(ROWS)), tiny("bert", layers=2)
    tokens = data["input_ids"][1][data["attention_mask"][1].bool()]
    others = torch.cat([data["input_ids"][row] for row in (0, 2, 3)])
    token = next(token for token in tokens.tolist() if token not in others.tolist())
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[token] = torch.nan
    teacher = cached(tmp_path, data, model)
    logits = Signals(logits=True)
    outputs = teacher.trace(of(data, ROWS), logits).logits
    assert outputs.isnan().any(1).tolist() == [False, True, False, False] and teacher.unfit == 1
    again = cached(tmp_path, data, model)
    assert again.trace(of(data, [0, 2, 3]), logits) and (again.ran, again.read) == (0, 3)
    assert again.trace(of(data, [1]), logits).logits.isnan().all() and again.ran == 1
    assert "1 times a row was not cached" in teacher.note()


def test_a_state_too_large_is_the_teachers_own_in_its_row(tmp_path):
    data, model = batch("bert", size=len(ROWS)), tiny("bert", layers=2)
    tokens = data["input_ids"][1][data["attention_mask"][1].bool()]
    others = torch.cat([data["input_ids"][row] for row in (0, 2, 3)])
    token = next(token for token in tokens.tolist() if token not in others.tolist())
    hidden_signals = Signals(hidden=frozenset({("encoder", 0)}))
    model.bert.embeddings.LayerNorm = torch.nn.Identity()
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[token] = 1e6
    teacher = cached(tmp_path, data, model)
    truth = teacher.teacher.trace(data, hidden_signals).hidden["encoder", 0]
    for _ in range(2):
        state = teacher.trace(of(data, ROWS), hidden_signals).hidden["encoder", 0]
        valid = data["attention_mask"].bool()
        torch.testing.assert_close(state[valid], truth[valid], rtol=1e-3, atol=1e-3)
    assert state.abs().max() > 65504 and teacher.unfit == 2
    assert cached(tmp_path, data, model).trace(of(data, [0, 2, 3]), hidden_signals) and teacher.ran == 8


def test_the_space_for_all_rows_is_taken_at_once(tmp_path):
    file = RowFile.create(tmp_path / "logits", 1000, (64,), np.dtype(np.float32))
    taken = (tmp_path / "logits").stat()
    assert taken.st_size == HEADER + 1000 * (8 + 256) and taken.st_blocks * 512 >= taken.st_size
    values, intact, damaged = file.read(np.arange(3), np.arange(3, dtype=np.uint64))
    assert not values.any() and not intact.any() and not damaged.any()


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_before_training(materials, tiny_run, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", full)
    given = {"teacher": teacher(materials), "losses.relations": None}
    message = r"teacher\.cache: there is no space for the outputs of all rows: No space left on device"
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, name="x", **given)
    assert not (tiny_run.parent / "runs" / "x").exists()
    (cache,) = (tiny_run.parent / "runs" / ".teacher-cache").iterdir()
    assert not list(cache.iterdir())


LIMITED = """
import resource, sys
from tests.helpers.runs import train_command
from distill.training.prepare import prepare

real = prepare.check_outputs

def check_outputs(*given):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    real(*given)

prepare.check_outputs = check_outputs
sys.exit(train_command(sys.argv[1:]))
"""


def test_a_limit_of_the_system_ends_the_command_with_a_line(materials, tiny_run):
    """Not with SIGBUS or SIGXFSZ: a file of more than 20 kB cannot be written, and the states take more."""
    assert hasattr(resource, "RLIMIT_FSIZE")
    text = tiny_run.read_text().replace("  relations: {kind: Relations, layers: top, heads: 4, stop: 50%}\n", "")
    tiny_run.write_text(text.replace(f"teacher: {materials}/teacher", f"teacher: {teacher(materials)}"))
    words = [sys.executable, "-c", LIMITED, "--config", str(tiny_run)]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "teacher.cache: there is no space" in done.stderr.strip().splitlines()[-1]


def test_a_disk_that_fails_while_training_costs_the_cache_alone(materials, tiny_run, monkeypatch):
    given = {"teacher": teacher(materials), "losses.relations": None, "quantize": None}
    run(tiny_run, name="whole", output=str(tiny_run.parent / "elsewhere"), **given)
    with monkeypatch.context() as patch:
        patch.setattr(RowFile, "write", full)
        run(tiny_run, name="failing", **given)
    folder = tiny_run.parent / "runs" / "failing"
    assert "then the teacher ran without the cache" in notes(folder) and "No space left" in notes(folder)
    assert curve(folder) == curve(tiny_run.parent / "elsewhere" / "whole")


def test_a_cache_of_somebody_else_is_read(tmp_path, monkeypatch):
    data = batch("bert", size=len(ROWS))
    first = cached(tmp_path, data)
    expected = first.trace(of(data, [0, 1]), ASKED)
    real = Path.open

    def read_only(self: Path, mode: str = "r", *args: object, **more: object):
        if mode != "rb":
            raise PermissionError(13, "Permission denied")
        return real(self, mode, *args, **more)

    monkeypatch.setattr(Path, "open", read_only)
    other: CachedTeacher = cached(tmp_path, data)
    assert same(other.trace(of(data, [0, 1]), ASKED), expected) and other.read == 2
    other.trace(of(data, [2, 3]), ASKED)
    assert other.ran == 2 and "ran without the cache" in other.note()
