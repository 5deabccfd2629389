"""The entry point of the command ``distill`` and of ``python -m distill``."""

import os
import signal
import sys


def exit_at_once(number: int, frame: object) -> None:
    """End the process on a signal, as long as there is nothing to save."""
    print("stopped at once; if steps were made, go on with --resume", file=sys.stderr, flush=True)
    os._exit(128 + number)


def start(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code.

    Args:
        arguments: a verb and its options; by default those of this process.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, exit_at_once)
    # Not at the top: a signal must be answered while they are imported.
    from distill.config.own_packages import check_own_packages

    try:
        check_own_packages()
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    from distill.command.main import main

    sys.exit(main(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    start()
