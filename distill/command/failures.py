"""What the command says when it fails: one line, and how to continue."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config.errors import one_line

if TYPE_CHECKING:
    from distill.config.config import Config
    from distill.experiment.experiment import Experiment


def report_failure(error: BaseException, configs: list[Config[Experiment]] | None) -> int:
    """Report the exception that ended the command, and return the exit code.

    A bug prints its traceback, everything else one line. Unless a value is not finite, the last line says how to
    continue the run.

    Args:
        error: the exception.
        configs: the runs that the command makes, as far as they were read; None for a verb that makes none.
    """
    from distill.run_dir.disk import os_error_message
    from distill.training.callbacks.finite import NonFiniteError
    from distill.training.stop import Interrupted, is_lost_process, is_rank_zero

    if isinstance(error, Interrupted):
        return _report(str(error), configs, error.code)
    if isinstance(error, NonFiniteError):
        if is_rank_zero():
            print(error, file=sys.stderr, flush=True)
        return 1
    if isinstance(error, SystemExit):  # even with code 0 the run is unfinished
        return _report(f"a library has ended the process with {error.code}", configs, 1)
    if is_lost_process(error):
        return _report("another process of the run has ended", configs, 1)
    folders = [_folder(config) for config in configs or []] or [Path.cwd()]
    if message := os_error_message(error, (_started(configs) or folders)[-1]):
        return _report(one_line(message), configs, 1 if _started(configs) else 2)
    traceback.print_exception(error)
    return _report(f"{type(error).__name__}: this is a bug, or the machine failed", configs, 1)


def _report(reason: str, configs: list[Config[Experiment]] | None, code: int) -> int:
    from distill.training.stop import is_rank_zero

    if is_rank_zero():
        advice = "; go on with --resume" if _started(configs) else "; nothing was written yet"
        print(reason if configs is None else reason + advice, file=sys.stderr, flush=True)
    return code


def _started(configs: list[Config[Experiment]] | None) -> list[Path]:
    """Return the folders of the runs that have started."""
    # Path.is_file raises where a name is too long.
    return [folder for folder in map(_folder, configs or []) if os.path.isfile(folder / "config.yaml")]


def _folder(config: Config[Experiment]) -> Path:
    from distill.experiment.runs import folder_of

    return folder_of(config.value)
