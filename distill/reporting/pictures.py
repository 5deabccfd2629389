"""The figures of the report: curves over the timeline, bars per layer, agreement of teacher and student."""

import hashlib
import io
import math
import re
import warnings

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import offset_copy

WIDE = 7.2  # inches; a phone gets a narrower picture, not a smaller one, so that its text stays readable
NARROW = 3.6
MAX_POINTS = 240  # a curve with more logged steps is drawn as means of neighbours
MAX_LABELS = 12  # an agreement matrix with more classes merges the rare ones

# The colours of a PNG. In a page each is the CSS variable of its name, so pictures follow light and dark.
COLOURS = {"ink": "#1c2430", "muted": "#5f6875", "rule": "#e1e5ea", "accent": "#0b7a6f", "paper": "#fefefe"}
INK, MUTED, RULE, ACCENT, PAPER = COLOURS.values()

STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "report",  # text stays text: searchable, in the page's font
    "text.parse_math": False, "text.color": INK, "font.size": 8,  # a class may be called "$10 to $20"
    "figure.facecolor": PAPER, "axes.facecolor": "none", "axes.edgecolor": RULE, "axes.axisbelow": True,
    "axes.labelcolor": INK, "axes.labelsize": 8, "grid.color": RULE, "grid.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.color": RULE, "xtick.labelcolor": MUTED, "xtick.labelsize": 7.5, "xtick.major.size": 0,
    "ytick.color": RULE, "ytick.labelcolor": MUTED, "ytick.labelsize": 7.5, "ytick.major.size": 0,
}  # fmt: skip


def series(rows: list[dict], key: str) -> list[tuple[float, float, bool]]:
    """Return the points (step, value, weighted) of a column, without missing and non-finite values.

    ``weighted`` is False where the column ``<key>_weight`` is 0. More than ``MAX_POINTS`` become means of neighbours.
    """
    points = [
        (row["step"], row[key], row.get(f"{key}_weight", 1) != 0)
        for row in rows
        if row.get(key) is not None and math.isfinite(row[key])
    ]
    size = max(1, math.ceil(len(points) / MAX_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [[sum(column) / len(column) for column in zip(*group, strict=True)] for group in groups]
    return [(step, value, weighted > 0) for step, value, weighted in means]


def curve_names(rows: list[dict]) -> list[str]:
    """Return the columns to draw: validation metrics, then losses, then sparsity and penalty if any."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.items() if value is not None))
    metrics = [name for name in names if name.startswith("val/")]
    losses = [name for name in names if name.startswith("train/") and not name.endswith("_weight")]
    pruning = [name for name in ("sparsity", "penalty") if any(row.get(name) for row in rows)]
    return metrics + losses + pruning


def loss_curves(rows: list[dict], timeline: list[dict], total_steps: int, width: float = WIDE) -> Figure:
    """Draw a panel for each validation metric and loss, and the timeline under them.

    A loss is grey where its weight is 0, and has a log axis if it is positive and spans more than a decade.
    ``timeline`` is a list of {what, start_step, stop_step}, ``width`` is in inches.

    Raises:
        ValueError: if there is neither a curve nor a timeline.
    """
    names = [name for name in curve_names(rows) if series(rows, name)]
    if not names and not timeline:
        raise ValueError("rows: nothing to draw, neither a curve nor a timeline")
    heights = [0.62] * len(names) + [0.1 + 0.27 * len(timeline)] * bool(timeline)
    with rc_context(STYLE):
        figure = Figure(figsize=(width, sum(heights) + 0.3 * len(heights) + 0.3), layout="constrained")
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        axes = list(grid[:, 0])
        for axis, name in zip(axes, names, strict=False):
            _curve(axis, name, series(rows, name))
        if timeline:
            _timeline(axes[-1], timeline, total_steps)
        axes[-1].set_xlim(0, max([total_steps, 1, *(row["step"] for row in rows)]))
        axes[-1].set_xlabel("step", color=MUTED)
        axes[-1].xaxis.set_major_locator(MaxNLocator(4 if width < WIDE else 8, integer=True))
        axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        for axis in axes:
            axis.grid(axis="x")
    return figure


def _curve(axis: Axes, name: str, points: list[tuple[float, float, bool]]) -> None:
    steps, values, weighted = zip(*points, strict=True)
    _title(axis, name.removeprefix("train/").removeprefix("val/"), f"{values[-1]:.3g}")
    if name.startswith("val/"):
        axis.plot(steps, values, color=ACCENT, linewidth=1.4, marker="o", markersize=3)
    else:
        axis.plot(steps, values, color=MUTED, linewidth=0.8, alpha=0.6)
        used = [value if on else math.nan for value, on in zip(values, weighted, strict=True)]
        axis.plot(steps, used, color=ACCENT, linewidth=1.4)
    low, high = min(values), max(values)
    if low > 0 and high > 10 * low:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 3), numticks=4))
        axis.yaxis.set_minor_locator(NullLocator())
    else:
        axis.yaxis.set_major_locator(MaxNLocator(3))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(axis="y")


def _timeline(axis: Axes, timeline: list[dict], total_steps: int) -> None:
    end = max(total_steps, 1)
    _title(axis, "timeline", f"{total_steps:,} steps")
    for row, entry in enumerate(timeline):
        start, stop = min(entry["start_step"], end), min(entry["stop_step"], end)
        axis.barh(row, max(stop - start, end / 200), left=start, height=0.22, color=ACCENT)
        is_late = start > end / 2  # a left-aligned name would run out of the picture
        x, side = (stop, "right") if is_late else (start, "left")
        axis.text(x, row - 0.2, entry["what"], ha=side, va="bottom")
    axis.set_ylim(len(timeline) - 0.5, -0.8)
    axis.yaxis.set_major_locator(NullLocator())


def _title(axis: Axes, text: str, number: str) -> None:
    """Set a horizontal y label above the axis, and a number at the right end of its line."""
    above = offset_copy(axis.transAxes, fig=axis.figure, y=3, units="points")
    axis.set_ylabel(text, rotation=0, ha="left", va="bottom")
    axis.yaxis.set_label_coords(0, 1, transform=above)
    axis.text(1, 1, number, transform=above, ha="right", va="bottom", color=MUTED)


def short_name(name: str, length: int) -> str:
    """Shorten a dotted name to ``length`` characters by cutting words to their first letter from the left.

    Numbers and the last word are kept: ``b.e.l.11.attention.self.query``.
    """
    words = name.split(".")
    for position, word in enumerate(words[:-1]):
        if len(".".join(words)) > length and not word.isdigit():
            words[position] = word[:1]
    return ".".join(words)


def layer_bars(layers: list[dict], width: float = WIDE) -> Figure:
    """Draw for each layer the share of its weights that was cut or is zero, and its bits.

    ``layers`` is a list of {name, sparsity, bits, parameters, parameters_before}: ``sparsity`` in [0, 1] is the share
    of zeros among the remaining ``parameters``; ``bits`` may be None.

    Raises:
        ValueError: if there are no layers.
    """
    if not layers:
        raise ValueError("layers: nothing to draw")
    cut = [1 - layer["parameters"] / max(layer["parameters_before"], 1) for layer in layers]
    zero = [(layer["sparsity"] or 0) * (1 - share) for layer, share in zip(layers, cut, strict=True)]
    rows = range(len(layers))
    with rc_context(STYLE):
        figure = Figure(figsize=(width, 0.18 * len(layers) + 0.6), layout="constrained")
        weights, bits = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        weights.barh(rows, cut, height=0.55, color=ACCENT, label="cut out")
        weights.barh(rows, zero, left=cut, height=0.55, color=ACCENT, alpha=0.35, label="zero")
        weights.set_xlim(0, 1)
        weights.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        weights.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
        weights.set_xlabel("cut out (solid) or zero (faint)", color=MUTED)
        weights.set_yticks(rows, [short_name(layer["name"], 24 if width < WIDE else 48) for layer in layers])
        weights.tick_params(axis="y", labelfontfamily="monospace", labelsize=7)
        weights.set_ylim(len(layers) - 0.4, -0.6)
        bits.barh(rows, [layer["bits"] or 0 for layer in layers], height=0.55, color=ACCENT)
        bits.set_xlim(0, 32)
        bits.xaxis.set_major_locator(FixedLocator([8, 32]))
        bits.set_xlabel("bits", color=MUTED)
        bits.tick_params(axis="y", labelleft=False)
        for axis in (weights, bits):
            axis.grid(axis="x")
    return figure


def merge_rare_classes(
    counts: list[list[int]], labels: list[str], keep: int = MAX_LABELS
) -> tuple[list[list[int]], list[str]]:
    """Return matrix and labels with the ``keep`` - 1 most frequent classes, and a last one, "other"."""
    if len(labels) <= keep:
        return counts, labels
    size = [sum(counts[i]) + sum(row[i] for row in counts) for i in range(len(labels))]
    frequent = sorted(sorted(range(len(labels)), key=lambda i: -size[i])[: keep - 1])
    position = {label: i for i, label in enumerate(frequent)}
    merged = [[0] * keep for _ in range(keep)]
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            merged[position.get(i, keep - 1)][position.get(j, keep - 1)] += count
    return merged, [labels[i] for i in frequent] + ["other"]


def agreement_matrix(counts: list[list[int]], labels: list[str], width: float = WIDE) -> Figure:
    """Draw how often the student predicts one class (column) where the teacher predicts another (row).

    The shade of a cell is its share of the row; rare classes are merged. ValueError if ``counts`` is not square.
    """
    if not labels or len(counts) != len(labels) or any(len(row) != len(labels) for row in counts):
        raise ValueError(f"counts: not a square of {len(labels)} rows and columns, one for each label")
    counts, labels = merge_rare_classes(counts, labels)
    side = min(width, 1.6 + 0.6 * len(labels))
    with rc_context(STYLE):
        figure = Figure(figsize=(side, 0.9 * side), layout="constrained")
        axis = figure.subplots()
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                share = count / max(sum(row), 1)
                shade = {"facecolor": ACCENT, "alpha": 0.06 + 0.94 * share, "linewidth": 0}
                axis.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, **shade))
                ink = PAPER if share > 0.5 else INK if count else MUTED
                size = 8 - len(labels) / 6
                axis.text(j, i, f"{count:,}", ha="center", va="center", color=ink, fontsize=size)
        short = [label if len(label) <= 14 else label[:7] + "…" + label[-6:] for label in labels]
        turn = {"rotation": 45, "ha": "right"} if sum(map(len, short)) > 24 else {}
        axis.set_xticks(range(len(labels)), short, **turn)
        axis.set_yticks(range(len(labels)), short)
        axis.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5))
        axis.set_xlabel("student's prediction")
        axis.set_ylabel("teacher's prediction")
        axis.spines["bottom"].set_visible(False)
    return figure


def svg(figure: Figure) -> str:
    """Return the figure as an ``<svg>`` element for a page: transparent, in the page's fonts and colours.

    The same figure gives the same text. Its ids are unique, so that a page may hold several figures.
    """
    buffer = io.StringIO()
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts will have it
        no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]  # inside HTML there is no XML declaration
    # The page sets the size; the axes' limits hold every line, so nothing needs to be clipped.
    text = re.sub(r'(<svg .*?) width="\S+" height="\S+"', r"\1", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<(style|clipPath).*?</\1>.*?</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r' clip-path="[^"]*"', "", text)
    text = re.sub(r"'DejaVu Sans Mono', [^;\"]*monospace", "var(--mono, monospace)", text)
    text = re.sub(r"'DejaVu Sans', [^;\"]*sans-serif", "var(--sans, sans-serif)", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name}, {colour})")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return re.sub(r'(\bid="|href="#)', rf"\g<1>p{digest}-", text)
