"""What starts and stops when, in steps: checked before the run, printed, and kept in the report."""

from __future__ import annotations

import warnings
from dataclasses import fields
from itertools import pairwise

from distill.config.loader import Config
from distill.experiment.experiment import Experiment
from distill.teachers.moving_average import MovingAverage
from losses import Loss
from prune_schedules.schedule import Schedule, Timeline
from prune_schedules.scores.inputs import Reading


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
            with config.blame(f"{path}.{name}"):
                steps.append(moment.step(timeline))
        with config.blame(path):
            schedule.value(0, timeline)
        if (every := schedule.sampled_every(timeline)) > 1:
            kind = type(schedule).__name__
            why = f"{kind} does not say where it turns (breakpoints), and was looked at at each {every}th step alone"
            warnings.warn(f"{path}: {why}", stacklevel=2)
        if steps:
            add(f"{what} ({type(schedule).__name__.lower()})", min(steps), max(steps))

    if isinstance(experiment.teacher, MovingAverage):
        scheduled("teacher.decay", "decay of the average", experiment.teacher.decay)
        with config.blame("teacher"):
            experiment.teacher.check(timeline)
    for name, loss in experiment.losses.items():
        path, steps = f"losses.{name}", {}
        for end in ("start", "stop"):
            with config.blame(f"{path}.{end}"):
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
        _nothing_looks_at_what_may_not_run(config, experiment.replace, timeline)
    for name, pruner in experiment.pruners().items():
        path = f"prune.{name}" if isinstance(experiment.prune, dict) else "prune"
        of = "" if name == "prune" else f" {name}"
        scheduled(f"{path}.sparsity", f"sparsity{of}", pruner.sparsity)
        scheduled(f"{path}.penalty", f"penalty{of}", pruner.penalty)
        scheduled(f"{path}.drop", f"drop{of}", pruner.drop)
        with config.blame(path):
            pruner.check(timeline)
    if experiment.quantize:
        scheduled("quantize.share", "share of weights on a grid", experiment.quantize.share)
        with config.blame("quantize"):
            experiment.quantize.check(timeline)
        staged = isinstance(experiment.quantize.weights, dict)
        with config.blame("quantize" if staged else "quantize.start"):
            for grid, start, stop in experiment.quantize.windows(timeline):
                add(f"{f'{grid.rate:g}-bit' if staged else experiment.quantize.precision} training", start, stop)
    with config.blame("optimizer.warmup"):
        add("learning rate warm-up", 0, max(1, experiment.optimizer.warmup.step(timeline)))
    for pattern, until in experiment.optimizer.freeze.items():
        with config.blame(f"optimizer.freeze.{pattern}"):
            add(f"frozen {pattern}", 0, until.step(timeline))
    scheduled("optimizer.schedule", "learning rate", experiment.optimizer.schedule)
    _some_loss_counts(config, timeline)
    return found


def _some_loss_counts(config: Config[Experiment], timeline: Timeline) -> None:
    losses = config.value.losses
    for name, loss in losses.items():
        for step in sorted({step for schedule in _schedules(loss).values() for step in schedule.extremes(timeline)}):
            with config.blame(f"losses.{name}"):
                loss.at(step, timeline)
    silent = [steps for steps in stretches(losses, timeline) if not any(counts(losses, steps[0], timeline).values())]
    # A weight that rises from 0 is 0 at its first step alone; a gap is more than that.
    if (count := sum(map(len, silent))) > 1 + timeline.total_steps // 100:
        message = f"no loss has a weight at {count} of {timeline.total_steps} steps, first at step {silent[0][0]}"
        raise config.error("losses", message)


def stretches(losses: dict[str, Loss], timeline: Timeline, replace: Schedule | None = None) -> list[range]:
    """Return the run in stretches of steps, in each of which the same losses count at all steps.

    Args:
        losses: by name.
        timeline: of the run.
        replace: a probability that, too, is 1 at all steps of a stretch or at none.
    """
    edges, constant = {0, timeline.total_steps}, [steps for loss in losses.values() for steps in _idle(loss, timeline)]
    for steps in constant + (replace.equal_to(1.0, timeline) if replace else []):
        edges |= {steps.start, steps.stop}
    return [range(start, stop) for start, stop in pairwise(sorted(edges)) if stop <= timeline.total_steps]


def counts(losses: dict[str, Loss], step: int, timeline: Timeline) -> dict[str, bool]:
    """Return of each loss whether it has a weight at a step."""
    for loss in losses.values():
        loss.at(step, timeline)
    return {name: loss.now["weight"] != 0 for name, loss in losses.items()}


def _idle(loss: Loss, timeline: Timeline) -> list[range]:
    """Return the steps at which a loss has no weight, in stretches that may overlap."""
    outside = [range(loss.start.step(timeline)), range(loss.stop.step(timeline), timeline.total_steps)]
    return outside + loss.weight.equal_to(0.0, timeline)


def _schedules(part: Loss) -> dict[str, Schedule]:
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {name: value for name, value in values.items() if isinstance(value, Schedule)}


def _nothing_looks_at_what_may_not_run(config: Config[Experiment], replace: Schedule, timeline: Timeline) -> None:
    """Attention is that of a block of the student, which has none at a step at which it does not run, and reads
    nothing then.
    """
    for step in replace.extremes(timeline):
        if not 0 <= (probability := replace.value(step, timeline)) <= 1:
            raise config.error("replace", f"is {probability} at step {step}; it is a probability, from 0 to 1")
    losses = config.value.losses
    uncertain = [steps for steps in stretches(losses, timeline, replace) if replace.value(steps[0], timeline) < 1]
    for steps in uncertain:
        for name, has_weight in counts(losses, steps[0], timeline).items():
            if has_weight and losses[name].student_needs.attention:
                why = "looks at attention, which a block has only where it runs"
                raise config.error(f"losses.{name}", f"{why}: at step {steps[0]} that is not sure (replace)")
        for name, pruner in config.value.pruners().items():
            step = pruner.listens_next(steps[0], timeline) if isinstance(pruner, Reading) else None
            if step in steps:
                path = f"prune.{name}" if isinstance(config.value.prune, dict) else "prune"
                why = "looks at what a block reads, and reads only where it runs"
                raise config.error(path, f"kind: {why}: at step {step} that is not sure (replace)")


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
