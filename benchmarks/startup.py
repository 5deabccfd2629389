"""Seconds from the command to the first optimizer step of ``quickstart.yaml``, everything installed and its data made.

python -m benchmarks.startup [--rounds 3]        after `make quickstart`
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def once(folder: str) -> float:
    """Starts the command in a process of its own, and waits for the first row of metrics.csv."""
    words = ["--config", "quickstart.yaml", "--output", folder, "--trainer.log_every_n_steps=1"]
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "train.py", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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
    """Prints the seconds of each round and their median."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    found = []
    for number in range(parser.parse_args().rounds):
        with tempfile.TemporaryDirectory() as folder:
            found.append(once(folder))
        print(f"round {number + 1}: {found[-1]:.1f} s")
    print(f"first step after: median {statistics.median(found):.1f} s, {min(found):.1f} to {max(found):.1f} s")


if __name__ == "__main__":
    main()
