"""The command line: options, help and exit codes."""

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

from distill.config.errors import ConfigError, one_line, suggest
from distill.config.nodes import load_documents
from distill.experiment.overview import overview, sections

if TYPE_CHECKING:
    from distill.config.config import Config
    from distill.experiment.experiment import Experiment

# Everything else is imported where it is first needed: torch takes two seconds, Lightning and transformers five more,
# and --help, a missing file or a misspelt key must not wait for them.


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: the arguments after the program name.

    Returns:
        The exit code:
        0: success.
        1: the file system failed after the run had started, a value became NaN or infinite, or a bug. A bug prints its
        traceback, the others one line.
        2: invalid input or an unwritable folder, reported in one line.
        130, 143, 138: stopped by Ctrl-C, SIGTERM, SIGUSR1.

        Unless the code is 0 or 2, or a value is not finite, the last line says how to continue the run.
    """
    configs: list[Config[Experiment]] = []
    try:
        options, rest = _parser().parse_known_args(argv)
        overrides = parse_overrides(rest)
        if options.help is not None:
            return _help(options.help, options.config, overrides)
        if options.config is None:
            raise ConfigError("train.py: --config is missing; --help lists all options")
        _check_sections(overrides)
        load_documents(options.config)
        from distill.experiment.runs import read_runs

        configs += read_runs(options.config, overrides)
        if options.print_config:
            from distill.config.writer import to_yaml

            print("---\n".join(to_yaml(config.value) for config in configs), end="")
            return 0
        silence_libraries()
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
    # A SLURM job restarts with the same command, by its user or when it is requeued.
    default_resume = "auto" if "SLURM_JOB_ID" in os.environ else False
    parser.add_argument("--resume", nargs="?", const=True, default=default_resume, choices=["auto"])
    parser.add_argument("--help", "-h", nargs="?", const="", metavar="TOPIC")
    return parser


def _help(topic: str, file: str | None, overrides: dict[str, str]) -> int:
    if not topic:
        print(overview())
        return 0
    name = topic.partition(".")[0]
    if name not in sections():
        raise ConfigError(f"--help {topic}: a config has no {name!r}{suggest(name, sections())}")
    from distill.config.imports import load_roots
    from distill.experiment.experiment import Experiment
    from distill.experiment.help import help_text

    if file is not None:
        list(load_roots(file, Experiment, overrides))  # imports the config's modules, whose classes have help as well
    print(help_text(topic))
    return 0


def _check_sections(overrides: dict[str, str]) -> None:
    """Check that each override belongs to a section of a config, without importing the schema.

    Raises:
        ConfigError: at an unknown section.
    """
    for key in overrides:
        name = key.partition(".")[0]
        if name not in sections():
            raise ConfigError(f"--{key}: Experiment has no {name!r}{suggest(name, sections())}")


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
    """Report the exception that ended the command in one line, and return the exit code."""
    from distill.experiment.runs import folder_of
    from distill.run_dir.disk import os_error_message
    from distill.training.callbacks.finite import NonFiniteError
    from distill.training.stop import Interrupted, is_lost_process, is_rank_zero

    if isinstance(error, Interrupted):
        return report_unfinished(str(error), configs, error.code)
    if isinstance(error, NonFiniteError):
        if is_rank_zero():
            print(error, file=sys.stderr, flush=True)
        return 1
    if isinstance(error, SystemExit):  # even with code 0 the run is unfinished
        return report_unfinished(f"a library has ended the process with {error.code}", configs, 1)
    if is_lost_process(error):
        return report_unfinished("another process of the run has ended", configs, 1)
    folders = [folder_of(config.value) for config in configs] or [Path.cwd()]
    if message := os_error_message(error, (started_run_dirs(configs) or folders)[-1]):
        return report_unfinished(one_line(message), configs, 1 if started_run_dirs(configs) else 2)
    traceback.print_exception(error)
    return report_unfinished(f"{type(error).__name__}: this is a bug, or the machine failed", configs, 1)


def report_unfinished(reason: str, configs: list[Config[Experiment]], code: int) -> int:
    """Report why the command ends and how to continue in one line, and return the exit code."""
    from distill.training.stop import is_rank_zero

    if is_rank_zero():
        advice = "go on with --resume" if started_run_dirs(configs) else "nothing was written yet"
        print(f"{reason}; {advice}", file=sys.stderr, flush=True)
    return code


def started_run_dirs(configs: list[Config[Experiment]]) -> list[Path]:
    """Return the folders of the runs that have started."""
    from distill.experiment.runs import folder_of

    folders = [folder_of(config.value) for config in configs]
    # Path.is_file raises where a name is too long.
    return [folder for folder in folders if os.path.isfile(folder / "config.yaml")]


def silence_libraries() -> None:
    """Disable the libraries' progress bars and log messages.

    Warnings about the run stay. An exception that ends a library's thread is reported in one line.
    """
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
    # Raised by FSDP2 for T5's position bias, which is never modified in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")


def _thread_ended(error: threading.ExceptHookArgs) -> None:
    name = error.thread.name if error.thread else "a thread"
    message = f"{error.exc_type.__name__}: {error.exc_value}"
    print(one_line(f"warning: {name} of a library ended: {message}"), file=sys.stderr)


def parse_overrides(arguments: list[str]) -> dict[str, str]:
    """Return ``--key=value`` and ``--key value`` arguments as {key: value}.

    Raises:
        ConfigError: at an argument of any other form.
    """
    overrides, rest = {}, list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            raise ConfigError(f"{argument}: not understood; an override is --dotted.key=value")
        key, equals, value = argument[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{key}: has no value")
            value = rest.pop(0)
        overrides[key] = value
    return overrides
