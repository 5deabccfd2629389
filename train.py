"""Run the experiments of a YAML file: ``python train.py --config NAME.yaml [--dotted.key=value …]``."""

import os
import signal
import sys


def exit_at_once(number: int, frame: object) -> None:
    """End the process on a signal, as long as there is nothing to save."""
    print("stopped at once; if steps were made, go on with --resume", file=sys.stderr, flush=True)
    os._exit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, exit_at_once)
    # Not at the top: it takes seconds.
    from distill.cli import main

    sys.exit(main(sys.argv[1:]))
