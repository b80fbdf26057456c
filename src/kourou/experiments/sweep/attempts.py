"""An attempt of a run while it lasts: the signals that end it, one after the other, and the state that this makes."""

from __future__ import annotations

import collections
import dataclasses
import signal
import time

from kourou.experiments.journal.run_folder import RunLogs
from kourou.experiments.journal.run_records import RunState
from kourou.experiments.sweep.prepared import PreparedRun
from kourou.experiments.sweep.retries import AttemptOutcome
from kourou.experiments.sweep.slots import Slot

__all__ = ["FOREVER_S", "Attempt", "state_after"]

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


def state_after(why_ended: str, outcome: AttemptOutcome) -> tuple[RunState, str]:
    """The state of a run whose attempt ended, and how in words; ``why_ended`` is empty where it did so by itself."""
    stopped = _STOPPED.get(why_ended)
    if stopped is None:
        return (RunState.SUCCEEDED if outcome.ok else RunState.FAILED), outcome.message
    state, message, even_if_ok = stopped
    if outcome.ok and not even_if_ok:
        return RunState.SUCCEEDED, outcome.message
    return state, f"{message}, and {outcome.message}" if message else outcome.message


# Why an attempt was ended → its state, how it is told, and whether that holds for one that exits with 0, too: an
# interrupted run that does so has finished, and one that was told to save its work has done only that.
_STOPPED = {
    "timeout": (RunState.TIMEOUT, "", True),
    "cancelled": (RunState.CANCELLED, "cancelled", True),
    "interrupted": (RunState.INTERRUPTED, "interrupted", False),
    "checkpoint": (RunState.INTERRUPTED, "told to save its work", True),
}
