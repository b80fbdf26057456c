"""A signal that may come before there is anybody to act on it, and is kept until then."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from kourou import threads
from kourou.runtime.node_environment import SIGNALLED_VARIABLE


class HeldSignal:
    """Takes a signal from now on. It is for the main thread, and for a process that does nothing else with the signal.

    Jobs that near their time limit are told once, and Slurm may do so as soon as they have begun.

    Args:
        number: of the signal.

    Attributes:
        came: whether it has come, if need be to the script that has become this process.
    """

    def __init__(self, number: int) -> None:
        self.came = os.environ.pop(SIGNALLED_VARIABLE, None) is not None
        self._number = number
        self._act: Callable[[], object] = lambda: None
        signal.signal(number, lambda *_: self._on())

    def deliver_to(self, act: Callable[[], object]) -> None:
        """Have this called whenever it comes, and at once if it has come; it may be called twice."""
        self._act = act
        if self.came:
            act()

    def come_in(self, delay_s: float) -> None:
        """Have it come by itself after so many seconds; the interpreter's end does not wait for that."""
        main = threading.main_thread().ident
        assert main is not None  # noqa: S101 - it runs
        timer = threading.Timer(delay_s, signal.pthread_kill, (main, self._number))
        timer.daemon = True
        threads.start(timer)

    def _on(self) -> None:
        self.came = True
        self._act()
