"""The messages of a run on standard output: text, or JSON objects, a line each."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime

from distill.experiment.monitoring import Display


def is_live(display: Display) -> bool:
    """Return whether the progress is drawn in place: on a terminal that can do it, unless the config says otherwise."""
    can_draw = sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")
    return display.mode == "auto" and can_draw


def say(display: Display, run: str, event: str, text: str, facts: dict) -> None:
    """Print a message of a run; nothing in quiet mode.

    Args:
        display: the mode.
        run: the name of the run.
        event: the kind of the message, for ``json``.
        text: the message as text.
        facts: the message as plain data, for ``json``.
    """
    if display.mode == "json":
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        text = json.dumps({"event": event, "run": run, "time": now, **facts}, ensure_ascii=False)
    if display.mode != "quiet":
        print(text, file=sys.stdout, flush=True)
