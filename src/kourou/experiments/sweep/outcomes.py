"""How an attempt of a run ended, why it failed, in one word, and the state that this leaves the run in."""

from __future__ import annotations

import dataclasses

from kourou.experiments.journal.run_records import RunState
from kourou.runtime.model.records import ProcessExit, describe_signal

CAUSES = ("exit", "signal", "memory", "timeout", "start", "node")
"""It exited with another code than 0; was killed by a signal; took more memory than its limit; took longer than its
time limit; could not be started; its host, or its place there, was taken from it (batch systems and engines)."""


_TOLD = {"of memory": "memory", "could not start": "start", "was lost with its host": "node"}


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
        return AttemptOutcome(ok=False, cause="exit", message=f"exited with {end.code}")
    return AttemptOutcome(ok=True, message="succeeded")


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
