"""What tests of whole runs need: to start one and stop it, and to read what it left."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill import run
from distill.command.main import main
from distill.config.errors import ConfigError
from distill.training.callbacks.checkpoints import LastCheckpoint
from distill.training.stop import Interrupted

ROOT = Path(__file__).parents[2]
CONFIG = """\
task: {{name: classification, data: {data}, max_length: 32, batch_size: 8}}
teacher: {teacher}
student: {{kind: Transformer, layers: 2, hidden: 24, heads: 4, intermediate: 32}}
losses:
  hidden: {{kind: HiddenMSE, layers: uniform, stop: 50%}}
  relations: {{kind: Relations, layers: top, heads: 4, stop: 50%}}
  logits: {{kind: Logits, temperature: {{kind: Linear, initial: 4.0, to: 1.0}}}}
prune:
  elements: {{kind: Magnitude, sparsity: {{kind: Cubic, to: 0.5, start: 10%, stop: 60%}}}}
  neurons: {{kind: Magnitude, shape: neurons, sparsity: {{kind: Cubic, to: 0.25, start: 10%, stop: 60%}}}}
quantize: {{weights: 8, activations: 8, target: packed, start: 70%}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {output}
"""


def changed(config: str, folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """The file of a config of models and data in ``folder``, with some of its text replaced."""
    text = config.format(folder=folder)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / f"{name}.yaml").write_text(text)
    return folder / f"{name}.yaml"


def trained(config: str, folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """The folder of a run of a changed config, whose ``output`` is ``runs`` in ``folder``."""
    run(changed(config, folder, name, *changes))
    return folder / "runs" / name


def refusal(config: str, folder: Path, *changes: tuple[str, str]) -> str:
    """The message with which a changed config is refused."""
    with pytest.raises(ConfigError) as error:
        run(changed(config, folder, "refused", *changes))
    return str(error.value)


def train_command(words: list[str]) -> int:
    """Return the exit code of ``train.py`` with these arguments, in this process."""
    return main(["train", *words])


def command(file: Path, *words: str, **environment: str) -> subprocess.Popen:
    """``train.py`` with the file and the words, started."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "--config", str(file), *words],
        cwd=file.parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv."""
    return list(csv.DictReader((folder / "metrics.csv").open()))


def checkpoint(folder: Path, name: str = "last") -> dict:
    """What a checkpoint of the run holds."""
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights in last.ckpt."""
    return checkpoint(folder)["state_dict"]


def interrupted(monkeypatch: pytest.MonkeyPatch, stop: int, file: Path, **given: object) -> None:
    """A run that is told to stop after step ``stop``, as Ctrl-C does; after the last one, it is trained and no more."""
    real = LastCheckpoint.save

    def save(self, trainer):
        if trainer.global_step == stop:
            self.stop.code = 130
        real(self, trainer)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"after step {stop} of"):
        patch.setattr(LastCheckpoint, "save", save)
        run(file, **given)


def resumes_bit_for_bit(monkeypatch: pytest.MonkeyPatch, stop: int, total: int, file: Path, **given: object) -> Path:
    """Asserts that training ``total`` steps is training ``stop``, resuming and training the rest; its folder."""
    interrupted(monkeypatch, total, file, name="whole", **given)
    interrupted(monkeypatch, stop, file, name="parts", **given)
    interrupted(monkeypatch, total, file, name="parts", resume=True, **given)
    uninterrupted, parts = (file.parent / "runs" / name for name in ("whole", "parts"))
    as_one(uninterrupted, parts)
    return uninterrupted


def as_one(uninterrupted: Path, parts: Path) -> None:
    """Asserts that two runs have ended with the same state and the same curves, bit for bit."""
    expected, actual = checkpoint(uninterrupted), checkpoint(parts)
    for part in ("state_dict", "callbacks", "optimizer_states"):
        # Lightning saves current_score and does not load it; nothing reads it
        first, second = (
            {name: leaf for name, leaf in flat(saved[part]).items() if not name.endswith("/current_score")}
            for saved in (expected, actual)
        )
        assert first.keys() == second.keys()
        assert [name for name in first if not same(first[name], second[name])] == []
    assert rows(parts) == rows(uninterrupted)


def flat(value: object, path: str = "") -> dict[str, object]:
    """The leaves of mappings and lists by their path; of the names of files and folders the run's own is left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    if isinstance(value, str):
        return {path: value.replace("/whole/", "/parts/")}
    leaves = {name: leaf for key, inner in items for name, leaf in flat(inner, f"{path}/{key}").items()}
    return {name.replace("/whole/", "/parts/"): leaf for name, leaf in leaves.items()} if items else {path: value}


def same(first: object, second: object) -> bool:
    """Equal, bit for bit where they are tensors."""
    both = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    return torch.equal(first, second) if both else first is second or first == second


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Return whether two models have the same weights, bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


KILLED = """
import os, signal, sys
import torch
from distill.training.callbacks.checkpoints import LastCheckpoint
from distill.command.main import main
from distill.config.errors import ConfigError

step, where = int(sys.argv[1]), sys.argv[2]

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def save(self, trainer, real=LastCheckpoint.save):
    if where == "after a step" and trainer.global_step == step:
        kill()  # its row is in metrics.csv
    real(self, trainer)

def half(checkpoint, file, real=torch.save):
    real(checkpoint, file)
    if where == "within a checkpoint" and checkpoint["global_step"] == step and "optimizer_states" in checkpoint:
        file.flush()
        os.truncate(file.fileno(), os.path.getsize(file.fileno()) // 2)
        kill()

LastCheckpoint.save, torch.save = save, half
sys.exit(main(["train", *sys.argv[3:]]))
"""


def killed(file: Path, step: int, where: str, *words: str) -> None:
    """A run that SIGKILL ends after a step, before its checkpoint, or within its checkpoint."""
    script = file.parent / "killed.py"  # a file, which Lightning can start for other ranks
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(step), where, "--config", str(file), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
