"""The libraries are silent inside the context, and as they were after it."""

import logging
import threading
import warnings

import datasets
import transformers

from distill.training.callbacks.display.quiet import silence_libraries


def state() -> tuple:
    return (
        threading.excepthook,
        logging.getLogger("lightning.pytorch").level,
        transformers.utils.logging.get_verbosity(),
        transformers.utils.logging.is_progress_bar_enabled(),
        datasets.are_progress_bars_disabled(),
        list(warnings.filters),
    )


def test_the_libraries_are_as_they_were_after_it():
    before = state()
    with silence_libraries():
        assert transformers.utils.logging.get_verbosity() == transformers.logging.ERROR
        assert not transformers.utils.logging.is_progress_bar_enabled()
        assert logging.getLogger("lightning.pytorch").level == logging.WARNING
        inside = state()
        with silence_libraries():
            pass
        assert state() == inside
    assert state() == before
