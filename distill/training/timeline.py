"""The start and stop step of everything that is scheduled: checked before the run, printed, kept in the report."""

from __future__ import annotations

import warnings
from dataclasses import fields
from itertools import pairwise

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from losses.loss import Loss
from prune_schedules.schedule import Schedule, Timeline


def timeline_entries(config: Config[Experiment], timeline: Timeline) -> list[dict]:
    """Return a row {what, start_step, stop_step} for everything that changes during the run, in the config's order.

    Raises:
        ConfigError: at the key, if a time point lies outside the run, a window is empty, or no loss is active at
            some step.
    """
    experiment, rows = config.value, []

    def add(what: str, start: int, stop: int) -> None:
        rows.append({"what": what, "start_step": start, "stop_step": stop})

    def add_schedule(path: str, what: str, schedule: Schedule) -> None:
        steps = []
        for name, time_point in schedule.time_points().items():
            with config.error_context(f"{path}.{name}"):
                steps.append(time_point.step(timeline))
        with config.error_context(path):
            schedule.value(0, timeline)
        if (interval := schedule.sampling_interval(timeline)) > 1:
            kind = type(schedule).__name__
            reason = f"{kind} does not declare its breakpoints; only every {interval}th step was checked"
            warnings.warn(f"{path}: {reason}", stacklevel=2)
        if steps:
            add(f"{what} ({type(schedule).__name__.lower()})", min(steps), max(steps))

    if experiment.teacher:
        for field, schedule in _schedules(experiment.teacher).items():
            add_schedule(f"teacher.{field}", f"{field} of the teacher", schedule)
        with config.error_context("teacher"):
            experiment.teacher.check_schedules(timeline)
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
            add_schedule(f"{path}.{field}", f"{field} of {name}", schedule)
    if experiment.replace:
        add_schedule("replace", "replacement of blocks", experiment.replace)
        _check_probability(config, experiment.replace, timeline)
    for name, pruner in experiment.pruners().items():
        path = experiment.prune_key(name)
        suffix = "" if name == "prune" else f" {name}"
        add_schedule(f"{path}.sparsity", f"sparsity{suffix}", pruner.sparsity)
        add_schedule(f"{path}.penalty", f"penalty{suffix}", pruner.penalty)
        add_schedule(f"{path}.dropout", f"dropout{suffix}", pruner.dropout)
        with config.error_context(path):
            pruner.check(timeline)
    if experiment.quantize:
        add_schedule("quantize.quant_noise", "quantization noise", experiment.quantize.quant_noise)
        with config.error_context("quantize"):
            experiment.quantize.check(timeline)
        staged = isinstance(experiment.quantize.weights, dict)
        with config.error_context("quantize" if staged else "quantize.start"):
            for quantizer, start, stop in experiment.quantize.windows(timeline):
                add(
                    f"{f'{quantizer.bits_per_weight:g}-bit' if staged else experiment.quantize.precision} training",
                    start,
                    stop,
                )
    with config.error_context("optimizer.warmup"):
        add("learning rate warm-up", 0, max(1, experiment.optimizer.warmup.step(timeline)))
    for pattern, until in experiment.optimizer.freeze.items():
        with config.error_context(f"optimizer.freeze.{pattern}"):
            add(f"frozen {pattern}", 0, until.step(timeline))
    add_schedule("optimizer.schedule", "learning rate", experiment.optimizer.schedule)
    _check_some_loss_is_active(config, timeline)
    return rows


def _check_some_loss_is_active(config: Config[Experiment], timeline: Timeline) -> None:
    losses = config.value.losses
    for name, loss in losses.items():
        for step in sorted({step for schedule in _schedules(loss).values() for step in schedule.extremes(timeline)}):
            with config.error_context(f"losses.{name}"):
                loss.at(step, timeline)
    silent = [
        steps
        for steps in step_ranges(losses, timeline)
        if not any(loss.at(steps[0], timeline).weight for loss in losses.values())
    ]
    # A weight that rises from 0 is 0 at its first step alone; a gap is more than that.
    if (count := sum(map(len, silent))) > 1 + timeline.total_steps // 100:
        message = f"no loss has a weight at {count} of {timeline.total_steps} steps, first at step {silent[0][0]}"
        raise config.error("losses", message)


def step_ranges(losses: dict[str, Loss], timeline: Timeline) -> list[range]:
    """Return consecutive ranges of steps that cover the run; within a range the set of active losses is constant."""
    active = [steps for loss in losses.values() for steps in loss.active_steps(timeline)]
    edges = sorted({0, timeline.total_steps, *(edge for steps in active for edge in (steps.start, steps.stop))})
    return [range(start, stop) for start, stop in pairwise(edges)]


def _schedules(loss: Loss) -> dict[str, Schedule]:
    values = {field.name: getattr(loss, field.name) for field in fields(loss)}
    return {name: value for name, value in values.items() if isinstance(value, Schedule)}


def _check_probability(config: Config[Experiment], replace: Schedule, timeline: Timeline) -> None:
    for step in replace.extremes(timeline):
        probability = replace.value(step, timeline)
        if not 0 <= probability <= 1:
            raise config.error("replace", f"is {probability} at step {step}; it is a probability, from 0 to 1")


def final_form_step(experiment: Experiment, timeline: Timeline) -> int:
    """Return the step from which the student has its final sparsity and bits."""
    ends = [pruner.sparsity.span(timeline)[1] for pruner in experiment.pruners().values()]
    return max([0, *ends, *([experiment.quantize.windows(timeline)[-1][1]] if experiment.quantize else [])])


def early_quantization_warnings(experiment: Experiment, timeline: Timeline) -> list[str]:
    """Return a warning for each pruner whose masks still change after quantization has started."""
    if not experiment.quantize:
        return []
    _, start, _ = experiment.quantize.windows(timeline)[0]
    ends = {name: pruner.sparsity.span(timeline)[1] for name, pruner in experiment.pruners().items()}
    moving = ((name, end) for name, end in ends.items() if start < end)
    return [f"quantize starts at step {start}, while the masks of {name} move until step {end}" for name, end in moving]


def timeline_table(rows: list[dict], timeline: Timeline) -> str:
    """Return the timeline as text, a line with a bar for each row."""
    width, span = max(len(row["what"]) for row in rows), max(1, timeline.total_steps)
    lines = [f"{timeline.total_steps} steps, {timeline.epoch_steps} in an epoch"]
    for row in rows:
        start, stop = (round(30 * row[key] / span) for key in ("start_step", "stop_step"))
        stop = max(stop, start + 1)
        bar = " " * min(start, 29) + "█" * (stop - start if start < 30 else 1)
        lines.append(f"  {row['what']:<{width}}  {row['start_step']:>7} – {row['stop_step']:<7} {bar}".rstrip())
    return "\n".join(lines)
