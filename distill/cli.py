"""The command line: its options, its help, its exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import traceback
import warnings
from pathlib import Path

import datasets
import transformers

from distill.config.config import Config
from distill.config.imports import roots_of
from distill.config.nodes import ConfigError, one_line
from distill.config.writer import to_yaml
from distill.experiment.experiment import Experiment
from distill.experiment.help import help_text
from distill.reporting.publish import summary
from distill.run_dir.disk import reason
from distill.runner import run_experiments
from distill.training.callbacks.finite import NonFinite
from distill.training.prepare.documents import check, folder_of, read
from distill.training.stop import Interrupted, Stop, is_first, others_are_gone


def main(words: list[str]) -> int:
    """Runs the command.

    Returns:
        0: done. 2: the input is wrong, or nothing can be written, told in one line. 130 and 143: stopped by Ctrl-C and
        SIGTERM (138: SIGUSR1). 1: the file system failed after the run had begun, or a number of it became NaN or
        infinite, told in one line; or anything else, as a fault of ours. After all but 0, 2 and a number that is not
        finite a line tells how to go on.
    """
    configs: list[Config[Experiment]] = []
    parser = argparse.ArgumentParser(prog="train.py", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    parser.add_argument("--print_config", action="store_true")
    parser.add_argument("--check", action="store_true")
    # A SLURM job is started again as it stands, by its user or when it is requeued.
    unsaid = "auto" if "SLURM_JOB_ID" in os.environ else False
    parser.add_argument("--resume", nargs="?", const=True, default=unsaid, choices=["auto"])
    parser.add_argument("--help", "-h", action="store_true")
    try:
        quiet()
        known, rest = parser.parse_known_args(words)
        if known.help:
            if known.config is not None:
                list(roots_of(known.config, Experiment, overrides(rest)))  # its classes have their help, too
            print(help_text())
            return 0
        if known.config is None:
            raise ConfigError("train.py: no --config; --help lists what can be set")
        configs = read(known.config, overrides(rest))
        if known.print_config:
            print("---\n".join(to_yaml(config.value) for config in configs), end="")
            return 0
        with Stop(command=True) as stop:
            if known.check:
                for name, planned in check(configs, known.resume):
                    print(planned.text(name), flush=True)
                return 0
            for report in run_experiments(configs, known.resume, stop):
                if report is not None:
                    print(summary(report))
                    print(f"report: {report.folder / 'report.html'}", flush=True)
        return 0
    except (ConfigError, argparse.ArgumentError) as error:
        print(one_line(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Interrupted as error:
        return unfinished(str(error), configs, error.code)
    except NonFinite as error:
        if is_first():
            print(error, file=sys.stderr, flush=True)
        return 1
    except SystemExit as error:  # no way to end a run with 0
        return unfinished(f"a library has ended the process with {error.code}", configs, 1)
    except Exception as error:
        if others_are_gone(error):
            return unfinished("another process of the run has ended", configs, 1)
        folders = [folder_of(config.value) for config in configs] or [Path.cwd()]
        if why := reason(error, (begun(configs) or folders)[-1]):
            return unfinished(one_line(why), configs, 1 if begun(configs) else 2)
        traceback.print_exc()
        return unfinished(f"{type(error).__name__}: this is a fault of the program or the machine", configs, 1)


def unfinished(why: str, configs: list[Config[Experiment]], code: int) -> int:
    """Tells in a line why the command ends and how to go on, and gives its exit code."""
    if is_first():
        how = "go on with --resume" if begun(configs) else "nothing was written yet"
        print(f"{why}; {how}", file=sys.stderr, flush=True)
    return code


def begun(configs: list[Config[Experiment]]) -> list[Path]:
    """The folders of the runs that have begun."""
    folders = [folder_of(config.value) for config in configs]
    # Path.is_file raises where a name is too long.
    return [folder for folder in folders if os.path.isfile(folder / "config.yaml")]


def quiet() -> None:
    """Keeps the libraries' chatter off the terminal; their warnings about this run stay, and what ends one of their
    threads is a line.
    """
    threading.excepthook = _thread_ended
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


def _thread_ended(error: threading.ExceptHookArgs) -> None:
    name = error.thread.name if error.thread else "a thread"
    why = f"{error.exc_type.__name__}: {error.exc_value}"
    print(one_line(f"warning: {name} of a library ended: {why}"), file=sys.stderr)


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
