"""Startup time of the command: help, mistakes, and the first optimizer step of ``quickstart.yaml``; and its imports.

python -m benchmarks.startup [--rounds 3] [--imports 25] [--first-step]      --first-step needs `make quickstart`
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """\
task: {name: classification, data: data.csv}
teacher: teacher
student: {kind: Transformer, layers: 1}
losses: {logits: {kind: Logits, temperature: 2.0}}
trainer: {max_epochs: 1}
"""
CASES = {
    "--help": (["--help"], ""),
    "missing file": (["--config", "nowhere.yaml"], ""),
    "bad YAML": (["--config", "x.yaml"], "task: {\n"),
    "unknown option": (["--config", "x.yaml", "--outptu=x"], CONFIG),
    "misspelt key": (["--config", "x.yaml"], CONFIG.replace("temperature", "temprature")),
    "misspelt key of trainer": (["--config", "x.yaml"], CONFIG.replace("max_epochs", "max_epoch")),
    "--help losses": (["--help", "losses"], ""),
    "--print_config": (["--config", "x.yaml", "--print_config"], CONFIG),
}
"""By name: the arguments of the command, and the text of x.yaml."""
COMMAND = Path(__file__).parents[1] / "train.py"


def time_process(words: list[str], folder: str) -> tuple[float, float]:
    """Return wall-clock and processor seconds of a new process; the latter do not depend on other jobs."""
    begin, before = time.perf_counter(), os.times()
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, check=False)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begin, processor


def print_cases(rounds: int) -> None:
    """Print the median of each case, beside that of Python and of torch alone."""
    print(f"{'':<28} {'wall':>8} {'processor':>10}")
    references = {f"python -c '{code}'": ([sys.executable, "-c", code], "") for code in ("pass", "import torch")}
    commands = {name: ([sys.executable, str(COMMAND), *words], text) for name, (words, text) in CASES.items()}
    for name, (words, text) in (references | commands).items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "x.yaml").write_text(text)
            times = [time_process(words, folder) for _ in range(rounds)]
        wall, processor = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:<28} {wall:6.2f} s {processor:8.2f} s", flush=True)


def print_imports(module: str, count: int) -> None:
    """Print the packages with the longest import times of a module, without the packages that they import in turn."""
    words = [sys.executable, "-X", "importtime", "-c", f"import distill.command.main, {module}"]
    lines = subprocess.run(words, capture_output=True, text=True, cwd=COMMAND.parent).stderr.splitlines()
    microseconds: dict[str, int] = {}
    for line in lines:
        if match := re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+([^.\s]+)", line):
            microseconds[match[2]] = microseconds.get(match[2], 0) + int(match[1])
    print(f"\nimport {module}: {sum(microseconds.values()) / 1e6:.2f} s under -X importtime, of these")
    for package, time_ in sorted(microseconds.items(), key=lambda item: -item[1])[:count]:
        print(f"  {package:<24} {time_ / 1e6:6.2f} s")


def time_first_step(folder: str) -> float:
    """Return the seconds from the start of the command to the first row of metrics.csv."""
    words = ["--config", "quickstart.yaml", "--output", folder, "--trainer.log_every_n_steps=1"]
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, str(COMMAND), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        metrics = Path(folder) / "quickstart" / "metrics.csv"
        while not (metrics.exists() and metrics.read_text().count("\n") > 1):
            if process.poll() is not None:
                sys.exit(f"the command ended with {process.returncode}; run `make quickstart` first")
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        process.kill()
    return seconds


def main() -> None:
    """Print all measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--imports", type=int, default=0, help="the number of packages to list")
    parser.add_argument("--first-step", action="store_true")
    options = parser.parse_args()
    print_cases(options.rounds)
    if options.imports:
        print_imports("distill.experiment.experiment", options.imports)
        print_imports("distill.runner", options.imports)
    if options.first_step:
        times = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                times.append(time_first_step(folder))
        print(f"\nfirst step after: median {statistics.median(times):.1f} s, {min(times):.1f} to {max(times):.1f} s")


if __name__ == "__main__":
    main()
