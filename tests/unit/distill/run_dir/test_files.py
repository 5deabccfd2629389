"""A file of a run is whole or not there, whenever its writer is killed; a damaged checkpoint is noticed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from distill.run_dir.files import atomic_update_dir, atomic_write, remove_drafts, write_text
from distill.training.callbacks.checkpoints import CheckpointFiles, previous_path, read_checkpoint


def killed(action: Callable[[], object]) -> None:
    """Carries out the action in a process of its own, which SIGKILL ends."""
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_text(path, "one")
    write_text(path, "zwei, ü")
    assert path.read_text(encoding="utf-8") == "zwei, ü" and names(tmp_path) == ["report.json"]
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as draft:
        draft.write_text("hal")
        raise OSError(28, "No space left on device")
    assert path.read_text(encoding="utf-8") == "zwei, ü" and names(tmp_path) == ["report.json"]


def test_a_writer_that_is_killed_leaves_what_was_there_and_a_draft_that_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "one")

    def half() -> None:
        with atomic_write(path) as draft:
            draft.write_text("tw")
            kill()

    killed(half)
    assert path.read_text() == "one" and len(names(tmp_path)) == 2
    remove_drafts(tmp_path)
    assert names(tmp_path) == ["config.yaml"]


def test_the_last_but_one_is_there_when_the_writer_is_killed_between_the_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, renamed = tmp_path / "last.ckpt", []
    for step in (1, 2):
        CheckpointFiles().save_checkpoint({"global_step": step}, path)
    real = os.replace

    def replace(old: Path, new: Path) -> None:
        real(old, new)
        renamed.append(new)
        kill()

    monkeypatch.setattr(os, "replace", replace)
    killed(lambda: CheckpointFiles().save_checkpoint({"global_step": 3}, path))
    assert not path.exists() and read_checkpoint(previous_path(path))["global_step"] == 2


@pytest.mark.parametrize("where", ["there is none", "it is full"])
def test_the_folder_for_temporary_files_plays_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Lightning's own writer copies from there into the checkpoint, which it truncates first."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    monkeypatch.setenv("TMPDIR", "/dev/full" if where == "it is full" else str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", os.environ["TMPDIR"])
    CheckpointFiles().save_checkpoint({"global_step": 1, "weights": torch.arange(9)}, path)
    CheckpointFiles().save_checkpoint({"global_step": 2, "weights": torch.arange(9)}, path)
    assert read_checkpoint(path)["global_step"] == 2 and read_checkpoint(previous_path(path))["global_step"] == 1
    assert names(path.parent) == ["last.ckpt", "last.previous.ckpt"]

    def save(checkpoint: dict, file: BinaryIO) -> None:
        file.write(b"PK\x03\x04 half of a checkpoint")
        file.flush()
        kill()

    monkeypatch.setattr(torch, "save", save)
    killed(lambda: CheckpointFiles().save_checkpoint({"global_step": 3}, path))
    assert read_checkpoint(path)["global_step"] == 2 and read_checkpoint(previous_path(path))["global_step"] == 1


def test_folders_and_files_replace_their_namesakes_together(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_update_dir(tmp_path) as draft:
            (draft / "student").mkdir()
            (draft / "student" / f"{text}.safetensors").write_text(text)
            (draft / "student.onnx").write_text(text)
        assert names(tmp_path) == ["student", "student.onnx"] and names(tmp_path / "student") == [f"{text}.safetensors"]

    def half() -> None:
        with atomic_update_dir(tmp_path) as draft:
            (draft / "student").mkdir()
            kill()

    killed(half)
    assert names(tmp_path / "student") == ["two.safetensors"] and (tmp_path / "student.onnx").read_text() == "two"
    remove_drafts(tmp_path)
    assert names(tmp_path) == ["student", "student.onnx"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    given = {"global_step": 7, "weights": torch.arange(50.0), "names": ["a", "b"]}
    CheckpointFiles().save_checkpoint(given, path)
    return path


def test_a_byte_that_is_another_is_noticed_or_says_nothing(saved: Path) -> None:
    contents, noticed = saved.read_bytes(), 0
    for at in range(0, len(contents), 3):
        saved.write_bytes(contents[:at] + bytes([contents[at] ^ 0x10]) + contents[at + 1 :])
        try:
            state = read_checkpoint(saved)
        except ValueError as error:
            assert str(error).startswith(f"{saved} is damaged (") and "\n" not in str(error)
            noticed += 1
        else:
            assert state["global_step"] == 7 and state["names"] == ["a", "b"]
            assert state["weights"].tolist() == list(range(50))
    assert noticed > len(contents) // 12


DAMAGE = {
    "empty": lambda whole: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "but for the last byte": lambda whole: whole[:-1],
    "zeros to the end": lambda whole: whole[:500] + bytes(len(whole) - 500),
    "a text": lambda whole: b"<html>quota exceeded</html>",
    "a pickle": lambda whole: b"\x80\x04N.",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_checkpoint_that_is_not_one_is_told(saved: Path, damage: Callable[[bytes], bytes]) -> None:
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(ValueError, match=r"last.ckpt is damaged \(.+\)$"):
        read_checkpoint(saved)
