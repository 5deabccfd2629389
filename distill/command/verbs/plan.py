"""Print the timeline and the sizes of the runs of a config; nothing is scored, trained or written."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.command.configs import add_config_arguments, print_help, read_configs
from distill.training.callbacks.display.quiet import silence_libraries

if TYPE_CHECKING:
    from distill.training.prepare.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_config_arguments(parser)


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Print the plan of each run, and return the exit code.

    Raises:
        ConfigError: at the first thing that does not fit.
    """
    if options.help is not None:
        return print_help(options, rest)
    configs = read_configs(options, rest)
    silence_libraries()
    from distill.training.prepare.documents import dry_run

    for name, plan in dry_run(configs):
        print(plan.text(name), flush=True)
        print(_sizes(plan), flush=True)
    return 0


def _sizes(plan: Plan) -> str:
    """Return the parameters of the models, and the memory of the student's training state on each device."""
    from distill.reporting.numbers import format_number

    teachers = {name: teacher.model.num_parameters() for name, teacher in plan.parts.teachers.items()}
    student = sum(weight.numel() for weight in plan.parts.student.parameters())
    lines = [f"  {name}: {format_number(count, 'n')} parameters" for name, count in teachers.items()]
    lines.append(f"  student: {format_number(student, 'n')} parameters")
    # Weights, gradients and the two moments of AdamW, in float32; activations come on top.
    lines.append(f"  training state of the student: {format_number(16 * student, 'B')}, and its activations")
    return "\n".join(lines)
