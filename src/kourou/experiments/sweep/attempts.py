"""An attempt of a run while it lasts, and the signals that end it, one after the other."""

from __future__ import annotations

import collections
import dataclasses
import signal
import time

from kourou.experiments.journal.run_folder import RunLogs
from kourou.experiments.sweep.prepared import PreparedRun
from kourou.experiments.sweep.slots import Slot

FOREVER_S = float("inf")


@dataclasses.dataclass
class Attempt:
    """An attempt that runs."""

    run: PreparedRun
    slot: Slot
    number: int
    """1 for the run's first one."""
    logs: RunLogs
    time_limit_s: float | None = None
    pid: int | None = None
    stop_reason: str = ""
    """Why it is being stopped, if it is: "timeout", "cancelled", "interrupted" or "checkpoint"."""
    deadline: float = FOREVER_S
    """Monotonic time of the next signal, or of its time limit."""
    _steps: collections.deque[tuple[int, float]] = dataclasses.field(default_factory=collections.deque)

    def started(self, pid: int) -> None:
        """Its process was made: its time limit counts from now on."""
        self.pid = pid
        if self.time_limit_s is not None and not self.stop_reason:
            self.deadline = time.monotonic() + self.time_limit_s

    def stop(self, why: str, steps: list[tuple[int, float]]) -> None:
        """Stop it with signals, the first one now.

        Args:
            why: see ``stop_reason``.
            steps: signals, each with the seconds to wait after it. SIGKILL follows the last one.
        """
        self.stop_reason = why
        self._steps = collections.deque([*steps, (signal.SIGKILL, FOREVER_S)])
        self.deadline = time.monotonic()

    def next_signal(self) -> int:
        """The signal that is due; the next one is after its seconds."""
        number, wait_s = self._steps.popleft()
        self.deadline = time.monotonic() + wait_s
        return number
