"""Stop a run on signals: during training at the end of a step, before and after it at once.

A signal handler neither communicates with other processes nor writes: it sets a flag, or raises ``Interrupted``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType, TracebackType

from lightning import Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only

from students import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, and the signals that a cluster sends before it preempts a machine."""
GRACE_SECONDS = 8.0
"""The time a process has to end in order."""


class Interrupted(BaseException):
    """A signal has stopped the run.

    Args:
        message: the line to print.
        code: the exit code: 128 plus the signal's number, as in shells: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class StopHandler:
    """A context manager that handles the stop signals of this process.

    Args:
        command: whether the process is our command line. It is then ended even where Python cannot run a signal
            handler, as in torch's wait for other processes.
    """

    def __init__(self, command: bool = False):
        self.command = command
        self.code = 0
        """The exit code of the first signal; 0 before one."""
        self.in_training = False
        """Whether to wait for the end of a step."""
        self.children: list[subprocess.Popen] = []
        """The processes that this one has started on this machine."""
        self.all_agreed = False
        """Whether all processes have agreed to stop."""
        self.old_handlers: dict[int, object] = {}
        self.closed = threading.Event()

    def __enter__(self) -> StopHandler:
        if threading.current_thread() is threading.main_thread():
            self.old_handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}
            if self.command:
                self._start_watchdog()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closed.set()
        if error is not None:
            self.end_children(at_once=not self.all_agreed)
        for number, handler in self.old_handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if self.command and self.old_handlers:
            signal.set_wakeup_fd(-1)
            os.close(self.write_end)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_repeated, self.code = self.code != 0, self.code or 128 + number
        if is_repeated:  # as without this handler
            self.end_children(at_once=True)
            signal.signal(number, self.old_handlers[number])
            signal.raise_signal(number)
        elif not self.in_training:
            raise Interrupted(f"stopped by {signal.Signals(number).name}", self.code)

    def _start_watchdog(self) -> None:
        """Start a thread that ends the process if ``_receive`` has not done so in time after a signal.

        The interpreter writes each signal to a pipe (``set_wakeup_fd``), also where Python code does not run.
        """
        read_end, self.write_end = os.pipe()
        os.set_blocking(self.write_end, False)
        signal.set_wakeup_fd(self.write_end, warn_on_full_buffer=False)

        def watch() -> None:
            while numbers := os.read(read_end, 1):
                number = numbers[0]
                if number in SIGNALS and not self.closed.wait(GRACE_SECONDS) and not self.in_training:
                    self.exit_now(f"stopped by {signal.Signals(number).name}", 128 + number)
            os.close(read_end)

        threading.Thread(target=watch, daemon=True).start()

    def exit_now(self, reason: str, code: int) -> None:
        """End this process and its children at once, with a line."""
        print(f"{reason}; if steps were made, go on with --resume", file=sys.stderr, flush=True)
        self.end_children(at_once=True)
        os._exit(code)

    def agreed_code(self, trainer: Trainer) -> int:
        """Return the exit code if any process has received a signal, else 0; all processes call it together."""
        return processes.all_reduce_max(self.code, trainer.strategy.root_device)

    def end_children(self, at_once: bool = False) -> None:
        """Wait some seconds for the children to end, and kill those that do not."""
        deadline = time.monotonic() + (0 if at_once else GRACE_SECONDS)
        for child in self.children:
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            if child.poll() is None:
                child.kill()

    def replace_lightning_handlers(self, trainer: Trainer) -> None:
        """Disable Lightning's signal handlers and its observer of child processes.

        Its SIGTERM handler broadcasts inside the handler, which hangs if other processes do not, and raises a
        ``SystemExit`` without a code; its observer kills all processes, this one included, without a message.
        """
        trainer._signal_connector.register_signal_handlers = lambda: None
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            trainer.strategy._launcher = ObservedLauncher(launcher, self)


class ObservedLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher of subprocesses, but a failed process ends the run with a line.

    Args:
        launcher: the launcher that it replaces.
        stop: the handler that ends the child processes.
    """

    def __init__(self, launcher: _SubprocessScriptLauncher, stop: StopHandler):
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self.stop = stop

    def _call_children_scripts(self) -> None:
        super()._call_children_scripts()
        self.stop.children += self.procs
        threading.Thread(target=self._observe, daemon=True).start()
        # Lightning starts its own observer next; without processes it does nothing.
        self.procs = []

    def _observe(self) -> None:
        children = list(self.stop.children)
        while all(child.poll() in (None, 0) for child in children):
            if all(child.poll() == 0 for child in children):
                return
            time.sleep(0.5)
        if self.stop.closed.wait(2 * GRACE_SECONDS if self.stop.code else GRACE_SECONDS):
            return  # the run is ending in order
        rank, child = next((rank, child) for rank, child in enumerate(children, start=1) if child.poll())
        code = child.returncode if child.returncode > 0 else 128 - child.returncode
        self.stop.exit_now(f"process {rank} of the run has ended with {code}", code)


def is_rank_zero() -> bool:
    """Return whether this process prints messages."""
    return getattr(rank_zero_only, "rank", 0) == 0


def is_lost_process(error: BaseException) -> bool:
    """Return whether an error comes from a collective operation with a process that has ended."""
    return processes.world_size() > 1 and any(
        f"onnection {what}" in str(error) for what in ("closed by peer", "reset by peer", "refused")
    )
