"""The live display of a run on a terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distill.training.callbacks.display.progress import Progress, duration


class LiveDisplay:
    """Shows a bar and the values of the run, in place.

    It is drawn by the training loop and not by a thread, which would not survive the forks of data loaders.

    Args:
        name: the name of the run.
        console: of the terminal; by default that of standard output.
    """

    def __init__(self, name: str, console: Console | None = None):
        self.name = name
        self.live = Live(console=console or VisibleCursorConsole(highlight=False), auto_refresh=False)

    def show(self, progress: Progress) -> None:
        """Draw the progress."""
        if not self.live.is_started:
            self.live.start()
        self.live.update(self.render(progress), refresh=True)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        self.live.stop()

    def render(self, progress: Progress) -> Group:
        """Return what is drawn: the bar, the values, and what the timeline does next."""
        head = Table.grid(padding=(0, 2))
        left = progress.seconds_left
        head.add_row(
            Text(self.name, style="bold"),
            ProgressBar(progress.total, progress.step, width=24),
            f"step {progress.step}/{progress.total}",
            f"{100 * progress.step // progress.total} %",
            f"eta {duration(left)}" if left is not None else "",
            "validating" if progress.is_validating else "",
        )
        values = [progress.loss_text()]
        values += [f"{name} {value:.3g}" for name, value in {**progress.metrics, **progress.state}.items()]
        lines = [Text("  ".join(filter(None, values))), Text(progress.next_change, style="dim")]
        return Group(head, *(line for line in lines if line))


class VisibleCursorConsole(Console):
    """A console that keeps its cursor: a process that a second Ctrl-C ends at once could not bring it back."""

    def show_cursor(self, show: bool = True) -> bool:
        """Do nothing."""
        return False
