"""The progress of a run, as a line of text and as a JSON object."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass
class Progress:
    """How far a run is.

    Args:
        step: the number of finished optimizer steps.
        total: the number of steps of the run.
        values: the values of the last logged step, by column of metrics.csv.
        metrics: the metrics of the last validation, by column of metrics.csv; the main metric comes first.
        seconds_left: the estimated time to the last step; None while it is unknown.
        next_change: what the timeline does next, as ``in 120 steps: 8-bit training starts``.
        is_validating: whether a validation goes on.
    """

    step: int
    total: int
    values: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None
    next_change: str = ""
    is_validating: bool = False

    @property
    def losses(self) -> dict[str, float]:
        """Return the values of the active losses by name."""
        return {
            name.removeprefix("train/"): value
            for name, value in self.values.items()
            if name.startswith("train/") and self.values.get(f"{name}_weight")
        }

    @property
    def state(self) -> dict[str, float]:
        """Return the other values of the step, such as sparsity and bits."""
        shown = {name: value for name, value in self.values.items() if not name.startswith("train/")}
        return {name: value for name, value in shown.items() if name not in ("loss", "lr", "progress")}

    def loss_text(self) -> str:
        """Return the total and each loss, as ``loss 0.412 (hidden 0.2, logits 0.21)``; empty before the first one."""
        if "loss" not in self.values:
            return ""
        parts = ", ".join(f"{name} {value:.3g}" for name, value in self.losses.items())
        return f"loss {self.values['loss']:.3g}" + (f" ({parts})" if parts else "")

    def line(self) -> str:
        """Return the progress as a line of text, with the main metric only."""
        parts = [f"step {self.step}/{self.total}", f"{100 * self.step // self.total} %", self.loss_text()]
        parts += [f"{name} {value:.3g}" for name, value in list(self.metrics.items())[:1]]
        parts += [f"{name} {value:.3g}" for name, value in self.state.items()]
        parts += [f"eta {duration(self.seconds_left)}"] if self.seconds_left is not None else []
        return "  ".join([*filter(None, parts), *["validating"] * self.is_validating])

    def to_json(self) -> dict:
        """Return the progress as plain data."""
        return {
            "step": self.step,
            "total": self.total,
            "loss": _finite(self.values.get("loss")),
            "losses": {name: _finite(value) for name, value in self.losses.items()},
            "metrics": {name: _finite(value) for name, value in self.metrics.items()},
            **{name: _finite(value) for name, value in self.state.items()},
            "eta_seconds": None if self.seconds_left is None else round(self.seconds_left),
            "next": self.next_change or None,
            "validating": self.is_validating,
        }


def duration(seconds: float) -> str:
    """Return a duration in words: ``40 s``, ``4 min``, ``2 h 5 min``."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def next_change(entries: Sequence[dict], step: int, total: int) -> str:
    """Return what the timeline does next, as ``in 120 steps: 8-bit training starts``; empty if nothing.

    Args:
        entries: the rows of the timeline.
        step: the number of finished steps.
        total: the number of steps of the run, at whose end nothing changes.
    """
    changes = [(at, text) for at, text in _changes(entries) if step < at < total]
    if not changes:
        return ""
    nearest = min(at for at, _ in changes)
    unit = "step" if nearest - step == 1 else "steps"
    return f"in {nearest - step} {unit}: {', '.join(text for at, text in changes if at == nearest)}"


def _changes(entries: Sequence[dict]) -> Iterator[tuple[int, str]]:
    for entry in entries:
        yield entry["start_step"], f"{entry['what']} starts"
        yield entry["stop_step"], f"{entry['what']} ends"


def _finite(value: float | None) -> float | None:
    """Return a value that JSON can hold."""
    return value if value is None or math.isfinite(value) else None
