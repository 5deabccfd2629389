"""How a run is told to stop: while steps are made, at the end of one; before and after, at once.

A signal's handler never talks to the other processes and never writes: it sets a flag, or ends what this process does.
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
"""Ctrl-C, and what a cluster sends before it takes a machine away."""
GRACE = 8.0
"""Seconds that are left to end in order."""


class Interrupted(BaseException):
    """The run was told to stop.

    Args:
        message: where it stands.
        code: of the exit: 128 and the number of the signal, as shells have it: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class Stop:
    """What signals have asked of this process; a context, in which they are heeded.

    Args:
        command: whether the process is all ours, and may be ended where Python does not come to handle a signal, as
            in torch's wait for other processes.
    """

    def __init__(self, command: bool = False):
        self.command = command
        self.code = 0
        """The exit code that was asked for; 0 as long as none was."""
        self.waits = False
        """Whether steps are made, and the end of one is waited for."""
        self.children: list[subprocess.Popen] = []
        """The other processes on this machine, where this one started them."""
        self.together = False
        """Whether all processes have agreed to end."""
        self.before: dict[int, object] = {}
        self.over = threading.Event()

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}
            if self.command:
                self._end_where_python_waits()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        if error is not None:
            self.end_children(at_once=not self.together)
        for number, handler in self.before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if self.command and self.before:
            signal.set_wakeup_fd(-1)
            os.close(self.write)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.code = self.code, self.code or 128 + number
        if again:  # as if this were not here
            self.end_children(at_once=True)
            signal.signal(number, self.before[number])
            signal.raise_signal(number)
        elif not self.waits:
            raise Interrupted(f"stopped by {signal.Signals(number).name}", self.code)

    def _end_where_python_waits(self) -> None:
        """Starts a thread that is told of signals by the interpreter itself, and gives ``_receive`` some seconds."""
        read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        signal.set_wakeup_fd(self.write, warn_on_full_buffer=False)

        def watch() -> None:
            while told := os.read(read, 1):
                if told[0] in SIGNALS and not self.over.wait(GRACE) and not self.waits:
                    self.leave(f"stopped by {signal.Signals(told[0]).name}", 128 + told[0])
            os.close(read)

        threading.Thread(target=watch, daemon=True).start()

    def leave(self, why: str, code: int) -> None:
        """Ends this process where it stands, with a line, and those it started."""
        print(f"{why}; if steps were made, go on with --resume", file=sys.stderr, flush=True)
        self.end_children(at_once=True)
        os._exit(code)

    def agreed(self, trainer: Trainer) -> int:
        """The exit code if any process was told to stop, else 0. All processes ask at the same place."""
        return processes.all_reduce_max(self.code, trainer.strategy.root_device)

    def end_children(self, at_once: bool = False) -> None:
        """Waits some seconds for the other processes, which end with this one, and ends those that do not."""
        deadline = time.monotonic() + (0 if at_once else GRACE)
        for child in self.children:
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            if child.poll() is None:
                child.kill()

    def take_over(self, trainer: Trainer) -> None:
        """Takes signals and the other processes out of Lightning's hands.

        Its SIGTERM handler broadcasts inside the handler, which hangs where the others are elsewhere, and raises a
        ``SystemExit`` without a code; its observer kills all, this process too, without a word.
        """
        trainer._signal_connector.register_signal_handlers = lambda: None
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            trainer.strategy._launcher = Launcher(launcher, self)


class Launcher(_SubprocessScriptLauncher):
    """Lightning's, with another end: where one of the processes fails, the run is ended with a line.

    Args:
        launcher: in whose place it stands.
        stop: of this process, which is told of the others.
    """

    def __init__(self, launcher: _SubprocessScriptLauncher, stop: Stop):
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self.stop = stop

    def _call_children_scripts(self) -> None:
        super()._call_children_scripts()
        self.stop.children += self.procs
        threading.Thread(target=self._observe, daemon=True).start()
        # What Lightning starts next is its own observer: it watches nobody.
        self.procs = []

    def _observe(self) -> None:
        children = list(self.stop.children)
        while all(child.poll() in (None, 0) for child in children):
            if all(child.poll() == 0 for child in children):
                return
            time.sleep(0.5)
        if self.stop.over.wait(2 * GRACE if self.stop.code else GRACE):
            return  # all are ending
        rank, child = next((rank, child) for rank, child in enumerate(children, start=1) if child.poll())
        code = child.returncode if child.returncode > 0 else 128 - child.returncode
        self.stop.leave(f"process {rank} of the run has ended with {code}", code)


def is_first() -> bool:
    """Whether this is the process that talks to the user."""
    return getattr(rank_zero_only, "rank", 0) == 0


def others_are_gone(error: BaseException) -> bool:
    """Whether an error is that of a collective, to which another process did not come as it has ended."""
    return processes.world_size() > 1 and any(
        f"onnection {what}" in str(error) for what in ("closed by peer", "reset by peer", "refused")
    )
