"""Silence the libraries: their progress bars, log messages and warnings that say nothing about the run."""

from __future__ import annotations

import logging
import sys
import threading
import warnings

from distill.config.errors import one_line


def silence_libraries() -> None:
    """Disable the libraries' progress bars and log messages.

    Warnings about the run stay. An exception that ends a library's thread is reported in one line.
    """
    import datasets
    import transformers

    threading.excepthook = _thread_ended
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module="lightning", category=FutureWarning)
    warnings.filterwarnings(
        "ignore", message=".*LeafSpec.*|.*does not have many workers.*|.*save all targets and predictions.*"
    )
    # Raised by FSDP2 for T5's position bias, which is never modified in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")


def _thread_ended(error: threading.ExceptHookArgs) -> None:
    name = error.thread.name if error.thread else "a thread"
    message = f"{error.exc_type.__name__}: {error.exc_value}"
    print(one_line(f"warning: {name} of a library ended: {message}"), file=sys.stderr)
