"""Why a run's attempt failed, in one word, and whether it is tried again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kourou import errors
from kourou.runtime.model.records import ProcessExit, describe_signal

__all__ = ["CAUSES", "AttemptOutcome", "Retry", "classify_exit"]

CAUSES = ("exit", "signal", "memory", "timeout", "start", "node")
"""It exited with another code than 0; was killed by a signal; took more memory than its limit; took longer than its
time limit; could not be started; its host, or its place there, was taken from it (batch systems and engines)."""

_NOT_STARTED = 127  # the exit code that shells, and the zygote, give to what could not be executed
_TOLD = {"of memory": "memory", "could not start": "start", "was lost with its host": "node"}
_FIRST = ("exit", "signal", "memory", "timeout", "node")  # what a plain number of retries is for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a failed run is started again, and after what time.

    Example: ``Retry(times={"signal": 3, "exit": 1})``.
    """

    times: int | Mapping[str, int] = 0
    """Retries by cause; a number: so many for each cause but "start", which another attempt does not mend."""
    backoff_s: float = 1.0
    """Seconds before the first retry; doubled for each further one."""
    longest_backoff_s: float = 60.0
    """Seconds that no retry waits longer than."""

    def __post_init__(self) -> None:
        for cause, times in self.by_cause.items():
            if cause not in CAUSES:
                raise errors.PlanError(f"retries are for {', '.join(CAUSES)}, got {cause!r}")
            if not isinstance(times, int) or isinstance(times, bool) or times < 0:
                raise errors.PlanError(f"the number of retries for {cause!r} is a whole number >= 0, got {times!r}")

    @property
    def by_cause(self) -> Mapping[str, int]:
        """Retries by cause."""
        if isinstance(self.times, Mapping):
            return self.times
        return dict.fromkeys(_FIRST, self.times)

    def delay_s(self, cause: str, done: Mapping[str, int]) -> float | None:
        """Seconds until the next attempt after a failure; None: there is none.

        Args:
            cause: why the attempt failed.
            done: the retries that there were already, by cause.
        """
        if done.get(cause, 0) >= self.by_cause.get(cause, 0):
            return None
        return float(min(self.longest_backoff_s, self.backoff_s * 2.0 ** sum(done.values())))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    """How an attempt ended."""

    ok: bool
    cause: str = ""
    """One of CAUSES, where it failed."""
    message: str = ""
    """How it ended, in words."""


def classify_exit(end: ProcessExit, *, timed_out_after_s: float | None = None) -> AttemptOutcome:
    """Classify how a process ended; ``timed_out_after_s`` is set where it was killed for taking longer."""
    if timed_out_after_s is not None:
        return AttemptOutcome(
            ok=False, cause="timeout", message=f"took longer than its time limit of {timed_out_after_s:g} s"
        )
    if end.cause:
        cause = next((cause for words, cause in _TOLD.items() if words in end.cause), "signal")
        return AttemptOutcome(ok=False, cause=cause, message=end.cause)
    if end.signal is not None:
        return AttemptOutcome(ok=False, cause="signal", message=f"was killed by {describe_signal(end.signal)}")
    if end.code:
        line = end.last_lines[-1] if end.last_lines else ""
        if end.code == _NOT_STARTED and ("cannot start" in line or "cannot run" in line):
            return AttemptOutcome(ok=False, cause="start", message=line.removeprefix("kourou: "))
        return AttemptOutcome(ok=False, cause="exit", message=f"exited with {end.code}")
    return AttemptOutcome(ok=True, message="succeeded")
