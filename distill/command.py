"""The command line: its options, its help, its exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings

import datasets
import transformers
from lightning.pytorch.utilities import rank_zero_only

from distill.chain import check, read
from distill.checkpoints import Interrupted
from distill.config import ConfigError, to_yaml
from distill.finite import NonFinite
from distill.help import help_text
from distill.publish import summary
from distill.run import carry_out_all


def main(words: list[str]) -> int:
    """Runs the command; 0: done, 1: a number of the run became NaN or infinite, told in one line, 2: the input is wrong
    (told in one line), 130: Ctrl-C, the checkpoint is written.
    """
    quiet()
    parser = argparse.ArgumentParser(prog="train.py", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    parser.add_argument("--print_config", action="store_true")
    parser.add_argument("--check", action="store_true")
    # A SLURM job is started again as it stands, by its user or when it is requeued.
    unsaid = "auto" if "SLURM_JOB_ID" in os.environ else False
    parser.add_argument("--resume", nargs="?", const=True, default=unsaid, choices=["auto"])
    parser.add_argument("--help", "-h", action="store_true")
    try:
        known, rest = parser.parse_known_args(words)
        if known.help:
            print(help_text())
            return 0
        if known.config is None:
            raise ConfigError("train.py: no --config; --help lists what can be set")
        configs = read(known.config, overrides(rest))
        if known.print_config:
            print("---\n".join(to_yaml(config.value) for config in configs), end="")
            return 0
        if known.check:
            for name, planned in check(configs, known.resume):
                print(planned.text(name), flush=True)
            return 0
        for report in carry_out_all(configs, known.resume):
            if report is not None:
                print(summary(report))
                print(f"report: {report.folder / 'report.html'}", flush=True)
        return 0
    except (ConfigError, argparse.ArgumentError) as error:
        print(error, file=sys.stderr)
        return 2
    except NonFinite as error:
        if getattr(rank_zero_only, "rank", 0) == 0:
            print(error, file=sys.stderr)
        return 1
    except (Interrupted, KeyboardInterrupt) as error:
        print(str(error) or "stopped", file=sys.stderr)
        return 130


def quiet() -> None:
    """Keeps the libraries' chatter off the terminal; their warnings about this run stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module="lightning", category=FutureWarning)
    warnings.filterwarnings(
        "ignore", message=".*LeafSpec.*|.*does not have many workers.*|.*save all targets and predictions.*"
    )
    # FSDP2 of T5's position bias, which nothing changes in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")


def overrides(words: list[str]) -> dict[str, str]:
    """``--key=value`` and ``--key value`` as {key: value}.

    Raises:
        ConfigError: if a word is neither.
    """
    found, words = {}, list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{word}: not understood; an override is --dotted.key=value")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise ConfigError(f"--{key}: has no value")
            value = words.pop(0)
        found[key] = value
    return found
