"""Kill runs with SIGKILL at random times, resume them, and compare the results with undisturbed runs.

python -m benchmarks.kills [--kills 50] [--each 5] [--seed 0] [--folder FOLDER] [--json FILE]

Each run uses several losses, a cached teacher, two pruners, int8, accumulation, and validation within an epoch. It is
killed ``--each`` times, each time resumed by ``--resume=auto``, and then completed. Every other run has two processes,
of which one or both are killed. Three of four kills come right after a random step, the others at any time. The exit
code is 1 if a result differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from tests.helpers.repositories import save_sst2, save_tiny_bert

CONFIG = """\
task: {{name: classification, data: {folder}/data, max_length: 32, batch_size: 8}}
teacher: {{model: {folder}/teacher, cache: true}}
student: {{kind: Transformer, layers: 2, hidden: 24, heads: 4, intermediate: 32}}
losses:
  hidden: {{kind: HiddenMSE, layers: uniform, stop: 50%}}
  relations: {{kind: Relations, layers: top, heads: 4, stop: 50%}}
  logits: {{kind: Logits, temperature: {{kind: Linear, initial: 4.0, to: 1.0}}}}
prune:
  elements: {{kind: Movement, where: [attention], sparsity: {{kind: Cubic, to: 0.5, start: 10%, stop: 60%}}}}
  neurons: {{kind: Taylor, shape: neurons, sparsity: {{kind: Cubic, to: 0.25, start: 10%, stop: 60%}}}}
quantize: {{weights: 8, activations: 8, target: onnxruntime, start: 70%}}
optimizer: {{lr: 1e-3}}
trainer:
  max_epochs: {epochs}
  accelerator: cpu
  log_every_n_steps: 1
  accumulate_grad_batches: 2
  val_check_interval: 6
"""
PROCESSES = {1: [], 2: ["--trainer.devices=2"]}


class Run:
    """A run that is started and killed several times.

    Args:
        folder: the folder of config, data and teacher.
        name: the name of its output folder.
        processes: the number of processes.
    """

    def __init__(self, folder: Path, name: str, processes: int):
        self.folder, self.output, self.processes = folder / name / "run", folder / name, processes
        self.command = [sys.executable, "train.py", "--config", str(folder / "run.yaml"), "--resume=auto"]
        self.command += [f"--output={self.output}", *PROCESSES[processes]]
        self.total = 0
        """The last step of an undisturbed run."""
        self.output.mkdir()

    def start(self) -> subprocess.Popen:
        """Begin or resume the run, in a process group of its own."""
        log = (self.output / "log").open("a")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )

    def complete(self) -> tuple[float, float]:
        """Complete the run; return the seconds until it had its folder, and until its end."""
        begin, process = time.monotonic(), self.start()
        self.wait_for_folder(process)
        ready = time.monotonic() - begin
        if code := process.wait():
            raise SystemExit(f"{self.output / 'log'}: the run ended with {code}")
        return ready, time.monotonic() - begin

    def wait_for_folder(self, process: subprocess.Popen) -> None:
        """Wait until the process holds the lock of its folder, or has ended."""
        while process.poll() is None:
            with suppress(OSError, ValueError, KeyError):
                if json.loads((self.folder / "lock").read_text())["pid"] == process.pid:
                    return
            time.sleep(0.02)

    def kill(self, generator: random.Random, ready: float, end: float, others: int) -> dict:
        """Start the run and kill it at a random time, early enough for ``others`` more kills; return a record of it."""
        process, time_kind = self.start(), generator.choice(["step", "step", "step", "any"])
        wait = generator.uniform(0, 0.05 if time_kind == "step" else ready + (end - ready) / (1 + others))
        if time_kind != "any":
            self.wait_for_folder(process)
        target = self.step() + generator.randint(1, max(1, (self.total - self.step()) // (1 + others)))
        while time_kind == "step" and process.poll() is None and self.step() < target:
            time.sleep(0.02)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        victim = generator.choice(["both", "rank 0", "rank 1"]) if self.processes == 2 else "the process"
        record = {"victim": victim, "had_ended": process.poll() is not None, "step": self.step()}
        record["drafts"] = sorted(path.name for path in self.folder.rglob(".*.draft"))
        if victim == "rank 0":
            process.kill()
        elif victim == "rank 1":
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for child in children.read_text().split() if children.exists() else []:
                with suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)  # rank 0 notices, or had not started rank 1 yet
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        record["code"] = process.wait()
        return record

    def step(self) -> int:
        """Return the last step in metrics.csv, -1 without one."""
        with suppress(OSError, IndexError):
            return int(list(csv.DictReader((self.folder / "metrics.csv").open()))[-1]["step"])
        return -1


def compare(reference: Path, other: Path) -> list[str]:
    """Return the files and values that differ in two run folders, bit for bit."""
    differences = []
    for name in ("last", "best"):
        checkpoints = [
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True, map_location="cpu")
            for folder in (reference, other)
        ]
        for key in ("state_dict", "optimizer_states", "callbacks", "global_step"):
            expected, actual = (flatten(checkpoint.get(key)) for checkpoint in checkpoints)
            if expected.keys() != actual.keys() or any(not is_equal(expected[k], actual[k]) for k in expected):
                differences.append(f"{name}.ckpt {key}")
    for name in ("metrics.csv", "config.yaml", "student/model.safetensors", "student/config.json", "student.onnx"):
        contents = [(folder / name).read_bytes() for folder in (reference, other)]
        if name == "config.yaml":  # holds the folder of the runs
            folders = [str(folder.parent).encode() for folder in (reference, other)]
            contents = [content.replace(folder, b"") for content, folder in zip(contents, folders, strict=True)]
        if contents[0] != contents[1]:
            differences.append(name)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (reference, other)]
    metrics = [{name: model["metrics"] for name, model in report["models"].items()} for report in reports]
    if metrics[0] != metrics[1]:
        differences.append("report.json metrics")
    if file_names(reference) != file_names(other):
        differences.append(f"files: {sorted(file_names(reference) ^ file_names(other))}")
    return differences


def file_names(folder: Path) -> set[str]:
    """Return the relative paths of all files of a run."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def flatten(value: object, path: str = "") -> dict[str, object]:
    """Return the leaves of nested mappings and lists by path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    leaves = {name: leaf for key, inner in items for name, leaf in flatten(inner, f"{path}/{key}").items()}
    return leaves or {path: value}


def is_equal(value: object, other: object) -> bool:
    """Return whether two values are equal, tensors bit for bit."""
    both_tensors = isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor)
    return torch.equal(value, other) if both_tensors else value == other


def count_kills(runs: list[dict]) -> int:
    """Return the number of kills of a running process."""
    return sum(not kill["had_ended"] for run in runs for kill in run["kills"])


def main() -> int:
    """Print a table with a row for each run; return 1 if one of them differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    options, generator = parser.parse_args(), random.Random(parser.parse_args().seed)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    save_sst2(folder / "repository", 64)
    (folder / "data").mkdir()
    for split in ("train", "validation"):
        shutil.move(
            folder / "repository" / "sst2" / f"{split}-00000-of-00001.parquet", folder / "data" / f"{split}.parquet"
        )
    save_tiny_bert(folder / "teacher", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    (folder / "run.yaml").write_text(CONFIG.format(folder=folder, epochs=options.epochs))

    references = {processes: Run(folder, f"reference-{processes}", processes) for processes in PROCESSES}
    times = {processes: run.complete() for processes, run in references.items()}
    for processes, (ready, end) in times.items():
        print(
            f"undisturbed, {processes} process(es): its folder after {ready:.0f} s, ended after {end:.0f} s", flush=True
        )
    print("| run | processes | kills | at steps | victims | drafts left | differs |\n|---|---|---|---|---|---|---|")
    runs = []
    while (done := count_kills(runs)) < options.kills:
        processes = list(PROCESSES)[len(runs) % 2]
        run = Run(folder, f"killed-{len(runs)}", processes)
        run.total = references[processes].step()
        count = min(options.each, options.kills - done)
        kills = [run.kill(generator, *times[processes], count - 1 - number) for number in range(count)]
        try:
            run.complete()
            differs = compare(references[processes].folder, run.folder)
        except (SystemExit, OSError) as error:
            differs = [str(error)]
        runs.append({"processes": processes, "kills": kills, "differs": differs})
        cells = [", ".join(str(kill["step"]) for kill in kills), ", ".join(kill["victim"] for kill in kills)]
        left = sum(bool(kill["drafts"]) for kill in kills)
        row = [len(runs), processes, len(kills), *cells, left, ", ".join(differs) or "no"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    equal = [run for run in runs if not run["differs"]]
    kills = count_kills(runs)
    print(f"{kills} kills in {len(runs)} runs: {len(equal)} of {len(runs)} ended like the undisturbed ones")
    if options.json:
        options.json.write_text(json.dumps({"kills": kills, "equal": len(equal), "runs": runs}, indent=1) + "\n")
    if not options.folder:
        shutil.rmtree(folder)
    return int(len(equal) < len(runs))


if __name__ == "__main__":
    sys.exit(main())
