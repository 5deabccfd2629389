"""Several runs in one file: as if each were started by hand, all checked before the first, resumed where they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from distill import run
from distill.config.loader import ConfigError
from distill.experiment.runs import read_runs
from distill.training.callbacks.checkpoints import LastCheckpoint
from distill.training.stop import Interrupted
from tests.helpers.runs import ROOT, rows, train_command, weights

CHAIN = """\
# a teacher, then its student
name: first
task: {{name: classification, data: {data}, max_length: 32, batch_size: 8}}
student: {teacher}
losses: {{labels: {{kind: Labels}}}}
trainer: {{max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}}
output: {output}
---
name: last
task: {{name: classification, data: {data}, max_length: 32, batch_size: 8}}
teacher: {output}/first
student: {{kind: Transformer, layers: 2}}
losses: {{hidden: {{kind: HiddenMSE, stop: 50%}}, logits: {{kind: Logits}}}}
prune: {{kind: Magnitude, sparsity: 0.5}}
trainer: {{max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}}
output: {output}
"""
NAMES = ["first", "last"]


@pytest.fixture
def chain(materials: Path, tmp_path: Path) -> Path:
    file = tmp_path / "chain.yaml"
    file.write_text(CHAIN.format(data=materials / "data", teacher=materials / "teacher", output=tmp_path / "runs"))
    return file


@pytest.fixture(scope="module")
def by_hand(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the two runs, each started from a file of its own."""
    folder = tmp_path_factory.mktemp("by-hand")
    text = CHAIN.format(data=materials / "data", teacher=materials / "teacher", output=folder / "runs")
    for number, document in enumerate(text.split("---\n")):
        (folder / f"{number}.yaml").write_text(document)
        run(folder / f"{number}.yaml")
    return folder / "runs"


def same(by_hand: Path, runs: Path) -> None:
    """The runs ended with the very same weights and curves."""
    for name in NAMES:
        expected, actual = weights(by_hand / name), weights(runs / name)
        assert expected.keys() == actual.keys()
        assert [key for key in expected if not torch.equal(expected[key], actual[key])] == [], name
        assert rows(runs / name) == rows(by_hand / name)


def test_is_as_if_each_was_started_by_hand_and_gives_the_last_report(chain: Path, by_hand: Path) -> None:
    report = run(chain, output=str(chain.parent / "elsewhere"))
    assert report.name == "last" and report.models.keys() == {"teacher", "student"}
    same(by_hand, chain.parent / "elsewhere")
    assert not (chain.parent / "runs").exists(), "the folders that later runs name moved with the output"


def test_resuming_leaves_out_what_is_done_and_goes_on_bit_for_bit(
    chain: Path, by_hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, first = LastCheckpoint.save, chain.parent / "runs" / "first" / "report.json"

    def interrupt(self, trainer):
        self.stop.code = 130 * (trainer.global_step == 5)
        real(self, trainer)

    monkeypatch.setattr(LastCheckpoint, "save", interrupt)
    with pytest.raises(Interrupted, match="after step 5 of 8"):
        run(chain)
    with pytest.raises(Interrupted, match="after step 5 of 8"):
        run(chain, resume=True)  # the first goes on, the second begins
    monkeypatch.setattr(LastCheckpoint, "save", real)
    done = first.stat().st_mtime_ns
    assert run(chain, resume=True).name == "last"
    assert first.stat().st_mtime_ns == done
    same(by_hand, chain.parent / "runs")


MISTAKES = {
    "no name": ("name: last\n", "", "9: name: is missing; each of several runs in a file needs one"),
    "the name of another": ("name: last", "name: first", "9: name: 'first' is the name of another run of the file"),
    "a misspelt key": ("layers: 2", "layer: 2", "12: student.layer: Transformer has no 'layer'"),
    "more layers than the earlier student will have": ("layers: 2", "teacher_layers: [1, 5]", "12: student.teacher_"),
    "a loss that the earlier student cannot teach": (
        "kind: HiddenMSE,",
        "kind: HiddenMSE, layers: {1: 5},",
        "13: losses.hidden.layers: the teacher has layers 0 to 4, not 5",
    ),
    "a time point outside of the last run": (
        "stop: 50%",
        "stop: 3 epochs",
        "13: losses.hidden.stop: '3 epochs' is step 24",
    ),
    "itself as teacher": ("/first\n", "/last\n", "11: teacher.model: 'OUTPUT/last' is not made before this run"),
    "a later run as student": (
        "student: TEACHER",
        "student: OUTPUT/last",
        "4: student.model: 'OUTPUT/last' is not made before this run",
    ),
    "a folder that no run makes": ("/first\n", "/frist\n", "11: teacher.model: there is no folder 'OUTPUT/frist'"),
    "more processes in the last run": (
        "prune: {kind: Magnitude, sparsity: 0.5}\ntrainer: {",
        "prune: {kind: Magnitude, sparsity: 0.5}\ntrainer: {devices: 2, ",
        "15: trainer.devices: makes 2 processes, and the runs before have 1",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_a_later_run_is_told_before_the_first_begins(
    chain: Path, materials: Path, capsys: pytest.CaptureFixture, old: str, new: str, message: str
) -> None:
    paths = {"OUTPUT": str(chain.parent / "runs"), "TEACHER": str(materials / "teacher")}
    for word, path in paths.items():
        old, new, message = (text.replace(word, path) for text in (old, new, message))
    assert chain.read_text().count(old) == 1
    chain.write_text(chain.read_text().replace(old, new))
    assert train_command(["--config", str(chain)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"{chain}:{message}") and err.count("\n") == 1, err
    assert out == "" and not (chain.parent / "runs").exists()


def test_a_folder_of_a_later_run_that_is_taken_stops_the_first(chain: Path) -> None:
    (chain.parent / "runs" / "last").mkdir(parents=True)
    (chain.parent / "runs" / "last" / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match=r"chain.yaml:9: name: the folder .*last already holds a run"):
        run(chain)
    with pytest.raises(ConfigError, match=r"chain.yaml:2: name: there is no run in .*first to resume"):
        run(chain, resume=True)
    assert [path.name for path in (chain.parent / "runs").iterdir()] == ["last"]


def test_what_is_printed_reads_back_to_the_same(chain: Path, capsys: pytest.CaptureFixture) -> None:
    assert train_command(["--config", str(chain), "--print_config", "--seed=7"]) == 0
    text = capsys.readouterr().out
    assert [(document["name"], document["seed"]) for document in yaml.safe_load_all(text)] == [
        (name, 7) for name in NAMES
    ]
    chain.write_text(text)
    assert train_command(["--config", str(chain), "--print_config"]) == 0
    assert capsys.readouterr().out == text


def test_an_override_that_cannot_hold_for_all_is_refused(chain: Path) -> None:
    with pytest.raises(ConfigError, match=r"--student.layers: 'student' is a plain value in the file"):
        read_runs(chain, {"student.layers": "1"})
    with pytest.raises(ConfigError, match=r"^--name: 'x' is the name of another run of the file \(--name\)$"):
        read_runs(chain, {"name": "x"})


WAITING = """
import sys, time
import os
import subprocess
import sys
from pathlib import Path
from torch import distributed
from distill.training.prepare.documents import wait_for_rank_0

rank, mark = int(sys.argv[1]), Path("mark")
distributed.init_process_group("gloo", init_method=f"file://{Path('store').absolute()}", rank=rank, world_size=2)
if rank == 0:
    time.sleep(0.5)
    mark.write_text("measured and written")
wait_for_rank_0()
assert mark.exists()
distributed.destroy_process_group()
"""


def test_other_ranks_wait_until_rank_0_has_written(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", WAITING, str(rank)], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        for rank in range(2)
    ]
    assert [rank.wait(240) for rank in ranks] == [0, 0]
