"""Kills runs at random moments with SIGKILL, and compares what they come to with runs that were left alone.

python -m benchmarks.kills [--kills 50] [--each 5] [--seed 0] [--folder FOLDER] [--json FILE]

Each run has every technique on (several losses, a cached teacher, two pruners, int8, accumulation, validation within an
epoch). It is killed ``--each`` times, each time resumed by ``--resume=auto``, and then left to end. One run in two has
two processes; of these both or one at random is killed. Three of four kills come right after a random step,
spread over the run, the others at any moment. It ends with 1 if anything differs.
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
  enable_progress_bar: false
"""
PROCESSES = {1: [], 2: ["--trainer.devices=2"]}


class Run:
    """One run, started as often as it takes.

    Args:
        folder: of config, data and teacher.
        name: of the folder that it writes to.
        processes: how many.
    """

    def __init__(self, folder: Path, name: str, processes: int):
        self.folder, self.output, self.processes = folder / name / "run", folder / name, processes
        self.command = [sys.executable, "train.py", "--config", str(folder / "run.yaml"), "--resume=auto"]
        self.command += [f"--output={self.output}", *PROCESSES[processes]]
        self.total = 0
        """The last step of a run that was left alone."""
        self.output.mkdir()

    def start(self) -> subprocess.Popen:
        """Begins it or goes on; its processes are a group."""
        log = (self.output / "log").open("a")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )

    def complete(self) -> tuple[float, float]:
        """Lets it end; the seconds until it had its folder, and until its end."""
        begin, process = time.monotonic(), self.start()
        self.wait_for_folder(process)
        ready = time.monotonic() - begin
        if code := process.wait():
            raise SystemExit(f"{self.output / 'log'}: the run ended with {code}")
        return ready, time.monotonic() - begin

    def wait_for_folder(self, process: subprocess.Popen) -> None:
        """Until config.yaml is there and the lock is of this process, or the process has ended."""
        while process.poll() is None:
            with suppress(OSError, ValueError, KeyError):
                if json.loads((self.folder / "lock").read_text())["pid"] == process.pid:
                    return
            time.sleep(0.02)

    def kill(self, draw: random.Random, ready: float, end: float, others: int) -> dict:
        """Starts it and kills it at a random moment, so early that ``others`` can follow; what is known of that."""
        process, moment = self.start(), draw.choice(["step", "step", "step", "any"])
        wait = draw.uniform(0, 0.05 if moment == "step" else ready + (end - ready) / (1 + others))
        if moment != "any":
            self.wait_for_folder(process)
        target = self.step() + draw.randint(1, max(1, (self.total - self.step()) // (1 + others)))
        while moment == "step" and process.poll() is None and self.step() < target:
            time.sleep(0.02)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        victim = draw.choice(["both", "rank 0", "rank 1"]) if self.processes == 2 else "the process"
        found = {"victim": victim, "had_ended": process.poll() is not None, "step": self.step()}
        found["drafts"] = sorted(path.name for path in self.folder.rglob(".*.draft"))
        if victim == "rank 0":
            process.kill()
        elif victim == "rank 1":
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for child in children.read_text().split() if children.exists() else []:
                with suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)  # it notices, or is too early to have one
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        found["code"] = process.wait()
        return found

    def step(self) -> int:
        """The last step in metrics.csv, -1 without one."""
        with suppress(OSError, IndexError):
            return int(list(csv.DictReader((self.folder / "metrics.csv").open()))[-1]["step"])
        return -1


def compare(whole: Path, other: Path) -> list[str]:
    """What differs in the folders of two runs, bit for bit."""
    found = []
    for name in ("last", "best"):
        one, two = (
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True, map_location="cpu")
            for folder in (whole, other)
        )
        for key in ("state_dict", "optimizer_states", "callbacks", "global_step"):
            one_flat, two_flat = flat(one.get(key)), flat(two.get(key))
            if one_flat.keys() != two_flat.keys() or any(not equal(one_flat[k], two_flat[k]) for k in one_flat):
                found.append(f"{name}.ckpt {key}")
    for name in ("metrics.csv", "config.yaml", "student/model.safetensors", "student/config.json", "student.onnx"):
        one, two = ((folder / name).read_bytes() for folder in (whole, other))
        if name == "config.yaml":  # holds the folder of the runs
            one, two = (text.replace(str(at.parent).encode(), b"") for text, at in ((one, whole), (two, other)))
        if one != two:
            found.append(name)
    one, two = (json.loads((folder / "report.json").read_text())["models"] for folder in (whole, other))
    if {name: model["metrics"] for name, model in one.items()} != {n: model["metrics"] for n, model in two.items()}:
        found.append("report.json metrics")
    if names(whole) != names(other):
        found.append(f"files: {sorted(names(whole) ^ names(other))}")
    return found


def names(folder: Path) -> set[str]:
    """All files of a run."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def flat(value: object, path: str = "") -> dict[str, object]:
    """The leaves of mappings and lists by their path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = {name: leaf for key, inner in items for name, leaf in flat(inner, f"{path}/{key}").items()}
    return found or {path: value}


def equal(one: object, two: object) -> bool:
    """Equal, bit for bit where they are tensors."""
    return torch.equal(one, two) if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor) else one == two


def counted(runs: list[dict]) -> int:
    """The kills that found a run alive."""
    return sum(not kill["had_ended"] for run in runs for kill in run["kills"])


def main() -> int:
    """Prints a table, a row for each run; 1 if one of them differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    given, draw = parser.parse_args(), random.Random(parser.parse_args().seed)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    save_sst2(folder / "repository", 64)
    (folder / "data").mkdir()
    for split in ("train", "validation"):
        shutil.move(
            folder / "repository" / "sst2" / f"{split}-00000-of-00001.parquet", folder / "data" / f"{split}.parquet"
        )
    save_tiny_bert(folder / "teacher", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    (folder / "run.yaml").write_text(CONFIG.format(folder=folder, epochs=given.epochs))

    whole = {processes: Run(folder, f"whole-{processes}", processes) for processes in PROCESSES}
    times = {processes: run.complete() for processes, run in whole.items()}
    for processes, (ready, end) in times.items():
        print(
            f"left alone, {processes} process(es): its folder after {ready:.0f} s, ended after {end:.0f} s", flush=True
        )
    print("| run | processes | kills | at steps | victims | drafts left | differs |\n|---|---|---|---|---|---|---|")
    runs = []
    while (done := counted(runs)) < given.kills:
        processes = list(PROCESSES)[len(runs) % 2]
        run = Run(folder, f"killed-{len(runs)}", processes)
        run.total = whole[processes].step()
        count = min(given.each, given.kills - done)
        kills = [run.kill(draw, *times[processes], count - 1 - number) for number in range(count)]
        try:
            run.complete()
            differs = compare(whole[processes].folder, run.folder)
        except (SystemExit, OSError) as error:
            differs = [str(error)]
        runs.append({"processes": processes, "kills": kills, "differs": differs})
        cells = [", ".join(str(kill["step"]) for kill in kills), ", ".join(kill["victim"] for kill in kills)]
        left = sum(bool(kill["drafts"]) for kill in kills)
        row = [len(runs), processes, len(kills), *cells, left, ", ".join(differs) or "no"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    good = [run for run in runs if not run["differs"]]
    kills = counted(runs)
    print(f"{kills} kills in {len(runs)} runs: {len(good)} of {len(runs)} ended as those that were left alone")
    if given.json:
        given.json.write_text(json.dumps({"kills": kills, "equal": len(good), "runs": runs}, indent=1) + "\n")
    if not given.folder:
        shutil.rmtree(folder)
    return int(len(good) < len(runs))


if __name__ == "__main__":
    sys.exit(main())
