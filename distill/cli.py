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
from typing import TYPE_CHECKING

from distill.config.nodes import ConfigError, documents, meant, one_line
from distill.experiment.overview import overview, sections

if TYPE_CHECKING:
    from distill.config.config import Config
    from distill.experiment.experiment import Experiment

# All else is imported where it is first needed: importing torch takes two seconds, Lightning and transformers five
# more, and help, a missing file or a misspelt key need not wait for them.


def main(words: list[str]) -> int:
    """Run the command.

    Returns:
        The exit code. 0: done. 2: wrong input, or nothing can be written. 130 and 143: stopped by Ctrl-C and SIGTERM
        (138: SIGUSR1). 1: the file system failed after the run had begun, a number became NaN or infinite, or an
        unexpected error. All but 0 print one line with the reason, an unexpected error a traceback too; if the run can
        be resumed, the line says how.
    """
    configs: list[Config[Experiment]] = []
    try:
        options, rest = _parser().parse_known_args(words)
        given = parse_overrides(rest)
        if options.help is not None:
            return _print_help(options.help, options.config, given)
        if options.config is None:
            raise ConfigError("train.py: no --config; --help lists what can be set")
        _check_sections(given)
        documents(options.config)
        from distill.experiment.runs import read_runs

        configs += read_runs(options.config, given)
        if options.print_config:
            from distill.config.writer import to_yaml

            print("---\n".join(to_yaml(config.value) for config in configs), end="")
            return 0
        quiet_libraries()
        return _run(configs, options)
    except (ConfigError, argparse.ArgumentError) as error:
        print(one_line(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BaseException as error:
        return _failed(error, configs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train.py", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    parser.add_argument("--print_config", action="store_true")
    parser.add_argument("--check", action="store_true")
    # A SLURM job is started again unchanged, by its user or when it is requeued.
    default = "auto" if "SLURM_JOB_ID" in os.environ else False
    parser.add_argument("--resume", nargs="?", const=True, default=default, choices=["auto"])
    parser.add_argument("--help", "-h", nargs="?", const="", metavar="TOPIC")
    return parser


def _print_help(topic: str, file: str | None, given: dict[str, str]) -> int:
    if not topic:
        print(overview())
        return 0
    name = topic.partition(".")[0]
    if name not in sections():
        raise ConfigError(f"--help {topic}: a config has no {name!r}{meant(name, sections())}")
    from distill.config.imports import roots_of
    from distill.experiment.experiment import Experiment
    from distill.experiment.help import help_text

    if file is not None:
        list(roots_of(file, Experiment, given))  # imports the user's modules, so that their classes have help too
    print(help_text(topic))
    return 0


def _check_sections(given: dict[str, str]) -> None:
    """Raise ConfigError if an override names no section of the config; sections are known without imports."""
    for key in given:
        name = key.partition(".")[0]
        if name not in sections():
            raise ConfigError(f"--{key}: Experiment has no {name!r}{meant(name, sections())}")


def _run(configs: list[Config[Experiment]], options: argparse.Namespace) -> int:
    from distill.reporting.publish import summary
    from distill.runner import run_experiments
    from distill.training.prepare.documents import check_runs
    from distill.training.stop import StopHandler

    with StopHandler(command=True) as stop:
        if options.check:
            for name, planned in check_runs(configs, options.resume):
                print(planned.text(name), flush=True)
            return 0
        for report in run_experiments(configs, options.resume, stop):
            if report is not None:
                print(summary(report))
                print(f"report: {report.folder / 'report.html'}", flush=True)
    return 0


def _failed(error: BaseException, configs: list[Config[Experiment]]) -> int:
    """Print in a line what ended the command, and return its exit code."""
    from distill.experiment.runs import folder_of
    from distill.run_dir.disk import reason
    from distill.training.callbacks.finite import NonFiniteError
    from distill.training.stop import Interrupted, is_lost_process, is_rank_zero

    if isinstance(error, Interrupted):
        return report_unfinished(str(error), configs, error.code)
    if isinstance(error, NonFiniteError):
        if is_rank_zero():
            print(error, file=sys.stderr, flush=True)
        return 1
    if isinstance(error, SystemExit):  # its code may be 0, although the run is not done
        return report_unfinished(f"a library has ended the process with {error.code}", configs, 1)
    if is_lost_process(error):
        return report_unfinished("another process of the run has ended", configs, 1)
    folders = [folder_of(config.value) for config in configs] or [Path.cwd()]
    if message := reason(error, (begun_run_dirs(configs) or folders)[-1]):
        return report_unfinished(one_line(message), configs, 1 if begun_run_dirs(configs) else 2)
    traceback.print_exception(error)
    return report_unfinished(f"{type(error).__name__}: this is a fault of the program or the machine", configs, 1)


def report_unfinished(reason: str, configs: list[Config[Experiment]], code: int) -> int:
    """Print in a line why the command ends and how to resume, and return the exit code."""
    from distill.training.stop import is_rank_zero

    if is_rank_zero():
        advice = "go on with --resume" if begun_run_dirs(configs) else "nothing was written yet"
        print(f"{reason}; {advice}", file=sys.stderr, flush=True)
    return code


def begun_run_dirs(configs: list[Config[Experiment]]) -> list[Path]:
    """Return the run folders that hold a config, so that they can be resumed."""
    from distill.experiment.runs import folder_of

    folders = [folder_of(config.value) for config in configs]
    # Path.is_file raises where a name is too long.
    return [folder for folder in folders if os.path.isfile(folder / "config.yaml")]


def quiet_libraries() -> None:
    """Silence progress bars and log messages of libraries, and print an error in one of their threads as a line."""
    import datasets
    import transformers

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
    # FSDP2 warns of T5's position bias, which nothing changes in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")


def _thread_ended(error: threading.ExceptHookArgs) -> None:
    name = error.thread.name if error.thread else "a thread"
    reason = f"{error.exc_type.__name__}: {error.exc_value}"
    print(one_line(f"warning: {name} of a library ended: {reason}"), file=sys.stderr)


def parse_overrides(words: list[str]) -> dict[str, str]:
    """Return ``--key=value`` and ``--key value`` options as {key: value}.

    Raises:
        ConfigError: if a word is neither.
    """
    overrides, words = {}, list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{word}: not understood; an override is --dotted.key=value")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise ConfigError(f"--{key}: has no value")
            value = words.pop(0)
        overrides[key] = value
    return overrides
