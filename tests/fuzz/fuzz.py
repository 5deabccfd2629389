"""Reads, and plans, configs that are almost right: each must be done, or refused in one line.

    python -m tests.fuzz.fuzz --reads 10000 --plans 500 [--seed 0]

A traceback, a line break in the message, more than ``PATIENCE`` seconds or a file that was written is a fault.
Faults are told by their seed, by which ``--only`` makes the config again.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from distill.config.config import WRAPPED
from distill.config.errors import ConfigError
from distill.config.writer import to_yaml
from distill.experiment.runs import folder_of, read_runs
from distill.training.callbacks.display.quiet import silence_libraries
from distill.training.prepare.plan import plan
from tests.fuzz.mutations import data_of, mutated
from tests.fuzz.tiny import configs as tiny

ROOT = Path(__file__).parents[2]
PATIENCE = {"read": 20, "plan": 120}  # seconds; thousands of times what a good config takes


class TooLong(BaseException):
    """The config was still being worked on."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TooLong inside the block after so many seconds."""

    def ring(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with its size and its time of change."""
    listing = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        listing[str(path)] = (status.st_size if path.is_file() else 0, status.st_mtime_ns)
    return listing


def fault(work: Callable[[], object], seconds: float) -> tuple[str, str]:
    """How the work ended, ``done``, ``refused`` or ``fault``, and what was said."""
    try:
        with at_most(seconds):
            work()
    except ConfigError as error:
        text = str(error)
        if WRAPPED in text:
            kind = re.sub(r"['\"].*?['\"]", "…", text[text.index(WRAPPED) + len(WRAPPED) :])
            return "wrapped", f"{text[: text.index(WRAPPED)]}{kind} {_lines(error.__cause__ or error)}"
        broken = not text or any(c in text for c in "\n\r\0\x1b\x85\u2028") or len(text) > 3000
        return ("fault", f"message: {text[:500]!r}") if broken else ("refused", text)
    except TooLong:
        return "fault", f"more than {seconds} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "fault", f"{type(error).__name__} at {_lines(error)}: {(str(error).splitlines() or [''])[0][:200]}"
    return "done", ""


def _lines(error: BaseException) -> str:
    """The innermost of our lines through which an error came."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(ROOT))]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "/tests/" not in frame.filename]
    return " < ".join(places[::-1][:4])


def reading(file: Path, words: dict[str, str]) -> None:
    """Reads a config; what was read must print, and the print read back to the same."""
    printed = ["", ""]
    for at in range(2):
        printed[at] = "---\n".join(to_yaml(config.value) for config in read_runs(file, words))
        file, words = file.with_name("again.yaml"), {}
        file.write_text(printed[at])
    file.unlink()
    if printed[0] != printed[1]:
        raise AssertionError("what was printed reads back to something else")


def shipped() -> list[list[dict]]:
    """The documents of each config, those of our own measurements as well."""
    files = [*(ROOT / "configs").glob("*.yaml"), *(ROOT / "benchmarks" / "configs").rglob("*.yaml")]
    return [data_of(file.read_text()) for file in sorted(files)]


def reads(seeds: Iterator[int], folder: Path) -> Iterator[tuple[int, str, str]]:
    """For each seed how reading a mutated config ended: (seed, how, what was said)."""
    configs = shipped()
    for seed in seeds:
        draw = random.Random(f"read {seed}")
        text, words = mutated(draw, draw.choice(configs), well_typed=draw.choice([0.2, 0.5, 0.9]))
        (folder / "x.yaml").write_text(text, errors="surrogatepass")
        before = tree(folder)
        how, said = fault(partial(reading, folder / "x.yaml", words), PATIENCE["read"])
        (folder / "again.yaml").unlink(missing_ok=True)
        after = tree(folder)
        yield (
            (seed, how, said) if before.keys() == after.keys() else (seed, "fault", f"wrote {set(after) ^ set(before)}")
        )


def plans(seeds: Iterator[int], folder: Path, configs: list[list[dict]]) -> Iterator[tuple[int, str, str]]:
    """The same of planning a run; ``configs`` name data and models below ``folder``, where nothing may be written."""
    file = folder / "x.yaml"

    def plan_all(words: dict[str, str]) -> None:
        for config in read_runs(file, words):
            plan(config, folder_of(config.value))

    for seed in seeds:
        draw = random.Random(f"plan {seed}")
        documents, how = draw.choice(configs), ""
        while how != "done":  # a config that reads well
            text, words = mutated(draw, documents, well_typed=0.95)
            file.write_text(text, errors="surrogatepass")
            how, _ = fault(partial(read_runs, file, words), PATIENCE["read"])
        before = tree(folder)
        how, said = fault(partial(plan_all, words), PATIENCE["plan"])
        yield (seed, "fault", "wrote") if tree(folder) != before else (seed, how, said)


def main() -> int:
    """Prints the figures and each fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reads", type=int, default=10_000)
    parser.add_argument("--plans", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--memory", type=int, default=4000, help="MiB that the process may have")
    parser.add_argument("--keep", type=Path, help="where the mutated file of a fault is kept")
    given = parser.parse_args()
    silence_libraries()
    resource.setrlimit(resource.RLIMIT_DATA, (given.memory << 20, -1))
    status = 0
    for what, count in (("read", given.reads), ("plan", given.plans)):
        with tempfile.TemporaryDirectory() as scratch:
            os.chdir(scratch)
            folder, ends, faults, begin, slowest = Path(scratch), Counter(), {}, time.monotonic(), (0.0, 0)
            seeds = iter(range(given.seed, given.seed + count))
            source = reads(seeds, folder) if what == "read" else plans(seeds, folder, tiny(folder)) if count else ()
            clock = time.monotonic()
            for seed, how, said in source:
                ends[how] += 1
                if sum(ends.values()) % max(1, count // 20) == 0:
                    print(f"{what} {sum(ends.values())}: {dict(ends)}, {time.monotonic() - begin:.0f} s", flush=True)
                now = time.monotonic()
                slowest, clock = max(slowest, (now - clock, seed)), now
                if how in ("fault", "wrapped"):
                    kind = re.sub(r"\d+", "#", said)
                    if kind not in faults:
                        print(f"  {what} {seed}: {said}", flush=True)
                        if given.keep:
                            given.keep.mkdir(parents=True, exist_ok=True)
                            (given.keep / f"{what}{seed}.yaml").write_bytes((folder / "x.yaml").read_bytes())
                    faults[kind] = faults.get(kind, 0) + 1
            os.chdir(ROOT)
        took = time.monotonic() - begin
        print(f"{what}: {dict(ends)} in {took:.0f} s, slowest {slowest[0]:.1f} s (seed {slowest[1]})", flush=True)
        for kind, number in sorted(faults.items(), key=lambda item: -item[1]):
            print(f"  {number:>5}  {kind}", flush=True)
        status = status or int(bool(faults))
    return status


if __name__ == "__main__":
    sys.exit(main())
