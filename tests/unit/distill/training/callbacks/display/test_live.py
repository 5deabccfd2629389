"""The live display, drawn on a console of text."""

import io

import pytest
from rich.console import Console

from distill.training.callbacks.display.live import LiveDisplay, VisibleCursorConsole
from distill.training.callbacks.display.progress import Progress


def drawn(width: int, progress: Progress) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    live = LiveDisplay("tiny", console)
    live.show(progress)
    live.close()
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 80, 200])
def test_everything_is_drawn_at_any_width(width):
    values = {"loss": 0.5, "train/hidden": 0.5, "train/hidden_weight": 1.0, "sparsity": 0.25, "bits": 8}
    progress = Progress(3, 10, values, {"val/accuracy": 0.75, "val/f1": 0.5}, 80.0, "in 2 steps: loss hidden ends")
    words = drawn(width, progress).split()
    if width > 30:
        assert {"step", "3/10", "30", "eta"} <= set(words)
    assert {"0.25", "0.75", "0.5)", "ends"} <= set(words)


def test_brackets_of_a_name_are_no_markup():
    assert "in 2 steps: frozen [a-z]+ ends" in drawn(80, Progress(3, 10, next_change="in 2 steps: frozen [a-z]+ ends"))


def test_the_cursor_stays():
    """A second Ctrl-C ends the process at once, and nobody could bring the cursor back."""
    console = VisibleCursorConsole(file=io.StringIO(), force_terminal=True)
    live = LiveDisplay("tiny", console)
    live.show(Progress(3, 10))
    assert "\x1b[?25l" not in console.file.getvalue()
    live.close()
