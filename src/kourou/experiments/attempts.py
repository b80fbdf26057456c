"""An attempt of a run while it lasts: the signals that end it, one after the other, and the state that this makes."""

from __future__ import annotations

import collections
import dataclasses
import signal
import time

from kourou.experiments.prepared import PreparedRun
from kourou.experiments.retries import Ending
from kourou.experiments.run_folder import RunLogs
from kourou.experiments.run_records import RunState
from kourou.experiments.slots import Slot

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
    ending: str = ""
    """Why it is being ended, if it is: "timeout", "cancelled", "interrupted" or "checkpoint"."""
    due: float = FOREVER_S
    """Monotonic time of the next thing to be done about it."""
    _steps: collections.deque[tuple[int, float]] = dataclasses.field(default_factory=collections.deque)

    def exists(self, pid: int) -> None:
        """Its process was made; from now on it counts how long it takes."""
        self.pid = pid
        if self.time_limit_s is not None and not self.ending:
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


def state_after(why_ended: str, ending: Ending) -> tuple[RunState, str]:
    """The state of a run whose attempt ended, and how in words; ``why_ended`` is empty where it did so by itself."""
    told = _TOLD.get(why_ended)
    if told is None:
        return (RunState.SUCCEEDED if ending.ok else RunState.FAILED), ending.words
    state, words, even_if_ok = told
    if ending.ok and not even_if_ok:
        return RunState.SUCCEEDED, ending.words
    return state, f"{words}, and {ending.words}" if words else ending.words


# Why an attempt was ended → its state, how it is told, and whether that holds for one that exits with 0, too: an
# interrupted run that does so has finished, and one that was told to save its work has done only that.
_TOLD = {
    "timeout": (RunState.TIMEOUT, "", True),
    "cancelled": (RunState.CANCELLED, "cancelled", True),
    "interrupted": (RunState.INTERRUPTED, "interrupted", False),
    "checkpoint": (RunState.INTERRUPTED, "told to save its work", True),
}
