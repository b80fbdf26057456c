"""An attempt of a run while it lasts, and the signals by which it is ended, each some seconds after the one before."""

from __future__ import annotations

import collections
import dataclasses
import signal
import time

from kourou.experiments.prepared import PreparedRun
from kourou.experiments.run_folder import RunLogs
from kourou.experiments.slots import Slot

__all__ = ["FOREVER_S", "Attempt"]

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
    ending: str = ""
    """Why it is being ended, if it is: "timeout", "cancelled", "interrupted" or "checkpoint"."""
    due: float = FOREVER_S
    """Monotonic time of the next thing to be done about it."""
    _steps: collections.deque[tuple[int, float]] = dataclasses.field(default_factory=collections.deque)

    def __post_init__(self) -> None:
        if self.time_limit_s is not None:
            self.due = time.monotonic() + self.time_limit_s

    def end(self, why: str, steps: list[tuple[int, float]]) -> None:
        """Let it be ended by signals, the first one now.

        Args:
            why: see ``ending``.
            steps: signals, each with the seconds to wait after it. SIGKILL follows the last one.
        """
        self.ending = why
        self._steps = collections.deque([*steps, (signal.SIGKILL, FOREVER_S)])
        self.due = time.monotonic()

    def next_signal(self) -> int:
        """The signal that is due; the next one is after its seconds."""
        number, wait_s = self._steps.popleft()
        self.due = time.monotonic() + wait_s
        return number
