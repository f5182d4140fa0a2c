"""How does a run leave cleanly on Ctrl-C or SIGTERM?

A signal is noted; the loop looks at it between two steps, writes its checkpoint and leaves.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after the checkpoint was written; ``signal`` says which."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.signal = number


class Cut(BaseException):
    """Raised by a signal where the work can be left at any point."""


def leave_ctrl_c_to_the_first(worker: int) -> None:
    """Start a process that reads images: a terminal sends Ctrl-C to all, and one decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Signals:
    """Notes Ctrl-C and SIGTERM instead of dying of them, so that a step is not cut in two."""

    def __init__(self, active: bool):
        # Only the main thread may take signals.
        self.active = active and threading.current_thread() is threading.main_thread()
        self.received = 0
        self.before: dict[signal.Signals, Any] = {}  # handlers, as the signal module gives them
        self.cut, self.process = False, os.getpid()

    def __enter__(self) -> Signals:
        if self.active:
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self.note)
        return self

    def note(self, number: int, frame) -> None:
        if self.received == signal.SIGINT == number:  # asked twice: leave at once
            raise KeyboardInterrupt
        self.received = int(number)
        if self.cut and os.getpid() == self.process:  # processes that read images only note it
            raise Cut

    def cut_short(self, work: Callable[[], None]) -> None:
        """Do what changes nothing of the run: a signal ends it at once, an earlier one skips it."""
        try:
            self.cut = True
            if not self.received:
                work()
        except Cut:
            pass
        except RuntimeError:  # it came through a process that the signal ended
            if not self.received:
                raise
        finally:
            self.cut = False

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
