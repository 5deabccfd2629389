"""Silence the libraries: their progress bars, log messages and warnings that say nothing about the run."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from contextlib import ExitStack

from distill.config.errors import one_line


def silence_libraries() -> ExitStack:
    """Disable the libraries' progress bars and log messages, until the returned context is left.

    Warnings about the run stay. An exception that ends a library's thread is reported in one line.
    """
    import datasets
    import transformers

    restore = ExitStack()
    restore.callback(setattr, threading, "excepthook", threading.excepthook)
    threading.excepthook = _thread_ended
    logger = logging.getLogger("lightning.pytorch")
    restore.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.WARNING)
    texts = transformers.utils.logging
    restore.callback(texts.set_verbosity, texts.get_verbosity())
    texts.set_verbosity_error()
    if texts.is_progress_bar_enabled():
        restore.callback(texts.enable_progress_bar)
    texts.disable_progress_bar()
    if not sys.stderr.isatty():
        if not datasets.are_progress_bars_disabled():
            restore.callback(datasets.enable_progress_bars)
        datasets.disable_progress_bars()
    restore.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module="lightning", category=FutureWarning)
    warnings.filterwarnings(
        "ignore",
        message=".*LeafSpec.*|.*does not have many workers.*|.*save all targets and predictions.*"
        "|.*smaller than the logging interval.*",
    )
    # Raised by FSDP2 for T5's position bias, which is never modified in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
    return restore


def _thread_ended(error: threading.ExceptHookArgs) -> None:
    name = error.thread.name if error.thread else "a thread"
    message = f"{error.exc_type.__name__}: {error.exc_value}"
    print(one_line(f"warning: {name} of a library ended: {message}"), file=sys.stderr)
