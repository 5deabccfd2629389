"""Trains and compresses what a YAML file says: ``python train.py --config NAME.yaml [--dotted.key=value …]``."""

import os
import signal
import sys


def leave(number: int, frame: object) -> None:
    """Ends at once: while there is nothing to save yet, and where a second signal says that it is in vain."""
    print("stopped at once; if steps were made, go on with --resume", file=sys.stderr, flush=True)
    os._exit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    # Not before: it takes seconds.
    from distill.cli import main

    sys.exit(main(sys.argv[1:]))
