"""What starts and stops when, in steps: checked before the run, printed, and kept in the report."""

from __future__ import annotations

import warnings
from dataclasses import fields
from itertools import pairwise

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.teachers.moving_average import MovingAverage
from losses.loss import Loss
from prune_schedules.schedule import Schedule, Timeline


def entries(config: Config[Experiment], timeline: Timeline) -> list[dict]:
    """Everything that changes while the run goes on: {what, start_step, stop_step}, in the order of the config.

    Raises:
        ConfigError: naming the key, if a moment lies outside the run, a window is empty, or no loss counts at some
            step.
    """
    experiment, found = config.value, []

    def add(what: str, start: int, stop: int) -> None:
        found.append({"what": what, "start_step": start, "stop_step": stop})

    def scheduled(path: str, what: str, schedule: Schedule) -> None:
        steps = []
        for name, moment in schedule.moments().items():
            with config.error_context(f"{path}.{name}"):
                steps.append(moment.step(timeline))
        with config.error_context(path):
            schedule.value(0, timeline)
        if (every := schedule.sampled_every(timeline)) > 1:
            kind = type(schedule).__name__
            why = f"{kind} does not say where it turns (breakpoints), and was looked at at each {every}th step alone"
            warnings.warn(f"{path}: {why}", stacklevel=2)
        if steps:
            add(f"{what} ({type(schedule).__name__.lower()})", min(steps), max(steps))

    if isinstance(experiment.teacher, MovingAverage):
        scheduled("teacher.decay", "decay of the average", experiment.teacher.decay)
        with config.error_context("teacher"):
            experiment.teacher.check(timeline)
    for name, loss in experiment.losses.items():
        path, steps = f"losses.{name}", {}
        for end in ("start", "stop"):
            with config.error_context(f"{path}.{end}"):
                steps[end] = getattr(loss, end).step(timeline)
        if steps["stop"] <= steps["start"]:
            raise config.error(
                path, f"stop: the window ends at step {steps['stop']}, and starts at step {steps['start']}"
            )
        add(f"loss {name}", steps["start"], steps["stop"])
        for field, schedule in _schedules(loss).items():
            scheduled(f"{path}.{field}", f"{field} of {name}", schedule)
    if experiment.replace:
        scheduled("replace", "replacement of blocks", experiment.replace)
        _is_probability(config, experiment.replace, timeline)
    for name, pruner in experiment.pruners().items():
        path = experiment.prune_key(name)
        of = "" if name == "prune" else f" {name}"
        scheduled(f"{path}.sparsity", f"sparsity{of}", pruner.sparsity)
        scheduled(f"{path}.penalty", f"penalty{of}", pruner.penalty)
        scheduled(f"{path}.drop", f"drop{of}", pruner.drop)
        with config.error_context(path):
            pruner.check(timeline)
    if experiment.quantize:
        scheduled("quantize.share", "share of weights on a grid", experiment.quantize.share)
        with config.error_context("quantize"):
            experiment.quantize.check(timeline)
        staged = isinstance(experiment.quantize.weights, dict)
        with config.error_context("quantize" if staged else "quantize.start"):
            for grid, start, stop in experiment.quantize.windows(timeline):
                add(f"{f'{grid.rate:g}-bit' if staged else experiment.quantize.precision} training", start, stop)
    with config.error_context("optimizer.warmup"):
        add("learning rate warm-up", 0, max(1, experiment.optimizer.warmup.step(timeline)))
    for pattern, until in experiment.optimizer.freeze.items():
        with config.error_context(f"optimizer.freeze.{pattern}"):
            add(f"frozen {pattern}", 0, until.step(timeline))
    scheduled("optimizer.schedule", "learning rate", experiment.optimizer.schedule)
    _some_loss_counts(config, timeline)
    return found


def _some_loss_counts(config: Config[Experiment], timeline: Timeline) -> None:
    losses = config.value.losses
    for name, loss in losses.items():
        for step in sorted({step for schedule in _schedules(loss).values() for step in schedule.extremes(timeline)}):
            with config.error_context(f"losses.{name}"):
                loss.at(step, timeline)
    silent = [
        steps
        for steps in stretches(losses, timeline)
        if not any(loss.at(steps[0], timeline).weight for loss in losses.values())
    ]
    # A weight that rises from 0 is 0 at its first step alone; a gap is more than that.
    if (count := sum(map(len, silent))) > 1 + timeline.total_steps // 100:
        message = f"no loss has a weight at {count} of {timeline.total_steps} steps, first at step {silent[0][0]}"
        raise config.error("losses", message)


def stretches(losses: dict[str, Loss], timeline: Timeline) -> list[range]:
    """Return the run in stretches of steps, in each of which the same losses have a weight at all steps."""
    active = [steps for loss in losses.values() for steps in loss.active_steps(timeline)]
    edges = sorted({0, timeline.total_steps, *(edge for steps in active for edge in (steps.start, steps.stop))})
    return [range(start, stop) for start, stop in pairwise(edges)]


def _schedules(loss: Loss) -> dict[str, Schedule]:
    values = {field.name: getattr(loss, field.name) for field in fields(loss)}
    return {name: value for name, value in values.items() if isinstance(value, Schedule)}


def _is_probability(config: Config[Experiment], replace: Schedule, timeline: Timeline) -> None:
    for step in replace.extremes(timeline):
        probability = replace.value(step, timeline)
        if not 0 <= probability <= 1:
            raise config.error("replace", f"is {probability} at step {step}; it is a probability, from 0 to 1")


def settled(experiment: Experiment, timeline: Timeline) -> int:
    """The step from which the student has its final sparsity and bits."""
    ends = [pruner.sparsity.span(timeline)[1] for pruner in experiment.pruners().values()]
    return max([0, *ends, *([experiment.quantize.windows(timeline)[-1][1]] if experiment.quantize else [])])


def early(experiment: Experiment, timeline: Timeline) -> list[str]:
    """What is allowed and seldom meant: weights are rounded while masks still move."""
    if not experiment.quantize:
        return []
    _, start, _ = experiment.quantize.windows(timeline)[0]
    ends = {name: pruner.sparsity.span(timeline)[1] for name, pruner in experiment.pruners().items()}
    moving = ((name, end) for name, end in ends.items() if start < end)
    return [f"quantize starts at step {start}, while the masks of {name} move until step {end}" for name, end in moving]


def table(found: list[dict], timeline: Timeline) -> str:
    """The timeline as text, a row each with a bar."""
    width, span = max(len(row["what"]) for row in found), max(1, timeline.total_steps)
    lines = [f"{timeline.total_steps} steps, {timeline.epoch_steps} in an epoch"]
    for row in found:
        start, stop = (round(30 * row[key] / span) for key in ("start_step", "stop_step"))
        stop = max(stop, start + 1)
        bar = " " * min(start, 29) + "█" * (stop - start if start < 30 else 1)
        lines.append(f"  {row['what']:<{width}}  {row['start_step']:>7} – {row['stop_step']:<7} {bar}".rstrip())
    return "\n".join(lines)
