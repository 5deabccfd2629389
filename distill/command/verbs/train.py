"""Train the runs of a config, and write a folder to deploy and a report for each."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from distill.command.configs import add_config_arguments, print_help, read_configs
from distill.command.failures import report_failure
from distill.config.errors import ConfigError

if TYPE_CHECKING:
    from distill.config.config import Config
    from distill.experiment.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_config_arguments(parser)
    parser.add_argument("--print_config", action="store_true", help="print the complete config, run nothing")
    parser.add_argument(
        "--check", action="store_true", help="read all data and models, print the preflight, train nothing"
    )
    # A SLURM job restarts with the same command, by its user or when it is requeued.
    default_resume = "auto" if "SLURM_JOB_ID" in os.environ else False
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=default_resume,
        choices=["auto"],
        help="resume the run in its folder; =auto begins or resumes it, or skips it if it is done (the default in a "
        "SLURM job)",
    )


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Train, or only check or print, and return the exit code.

    Raises:
        ConfigError: at the first mistake in the config.
    """
    if options.help is not None:
        return print_help(options, rest)
    configs: list[Config[Experiment]] = []
    try:
        configs += read_configs(options, rest)
        if options.print_config:
            from distill.config.writer import to_yaml

            print("---\n".join(to_yaml(config.value) for config in configs), end="")
            return 0
        return _run(configs, options)
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        return report_failure(error, configs)


def _run(configs: list[Config[Experiment]], options: argparse.Namespace) -> int:
    from distill.reporting.publish import say_report
    from distill.runner import run_experiments
    from distill.training.callbacks.display.messages import say
    from distill.training.callbacks.display.quiet import silence_libraries
    from distill.training.prepare.documents import check_runs
    from distill.training.stop import StopHandler

    displays = {config.value.name: config.value.display for config in configs}
    with StopHandler(command=True) as stop, silence_libraries():
        if options.check:
            for name, planned in check_runs(configs, options.resume):
                say(displays[name], name, "plan", planned.text(name), planned.to_json())
            return 0
        for report in run_experiments(configs, options.resume, stop):
            if report is not None:
                say_report(report, displays[report.name])
    return 0
