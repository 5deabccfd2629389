"""The messages of a run on standard output: text, or JSON objects, a line each."""

from __future__ import annotations

import json
import sys
from datetime import datetime

from distill.experiment.monitoring import Display


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
