"""What went wrong in a run: one worker is to blame, and what happened to the others followed from it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.courier.wire import failures
from kourou.nodes.ranks import Place
from kourou.runtime.model.records import ProcessExit, describe_signal
from kourou.shown import listed
from kourou.spmd.worker.main import Raised

_ABORT = 6  # SIGABRT: how libraries end a process when another rank went away
_LOST_A_PEER = ("closed by peer", "reset by peer", "Broken pipe", "NCCL communicator was aborted")
_TIMED_OUT = re.compile(r"time[- ]?out|timed out", re.IGNORECASE)  # in the words of gloo and of NCCL's watchdog
_MOST_NAMED = 8
_SIMULTANEOUS_S = 0.25  # a death by signal is known later than an exception that it caused in a peer, but not by more


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerExit:
    """How one worker ended."""

    place: Place
    exit: ProcessExit
    outcome: Any
    """Returned, Raised, an exception that reading the outcome raised, or None."""
    seen_s: float
    """``time.monotonic()`` of the launcher."""
    pid: int | None
    log_file: Path | None

    @property
    def succeeded(self) -> bool:
        """It returned, and its process ended well."""
        failed = self.outcome is None or isinstance(self.outcome, Raised | Exception)
        return not failed and self.exit.code == 0

    @property
    def cause(self) -> str:
        """In words, for example ``was killed by SIGSEGV``."""
        if isinstance(self.outcome, Raised):
            return f"raised {self.outcome.failure.type_name}: {self.outcome.failure.message}"
        if isinstance(self.outcome, Exception):
            return f"returned what cannot be read here: {self.outcome}"
        if self.exit.cause:
            return self.exit.cause
        if self.exit.signal is not None:
            return f"was killed by {describe_signal(self.exit.signal)}"
        before = "before its function had returned" if self.outcome is None else "after its function had returned"
        return f"exited with code {self.exit.code} {before}"


def root_cause(ends: Sequence[WorkerExit]) -> WorkerExit:
    """Of workers that failed by themselves, in the order in which that was seen, the one that the others followed.

    A rank that dies breaks its peers' connections, and their errors may be known first, above all on other hosts.
    """
    at_once = [end for end in ends if end.seen_s - ends[0].seen_s <= _SIMULTANEOUS_S]
    died = [end for end in at_once if end.outcome is None and end.exit.signal != _ABORT]
    causes = died or [end for end in at_once if not _lost_a_peer(end)] or at_once
    first = causes[0]
    if not isinstance(first.outcome, Raised):
        return first
    of_its_host = [
        end for end in causes if isinstance(end.outcome, Raised) and end.place.hostname == first.place.hostname
    ]
    return min(of_its_host, key=lambda end: end.outcome.at_s)


def _lost_a_peer(end: WorkerExit) -> bool:
    """It raised what a broken connection to another rank raises."""
    return isinstance(end.outcome, Raised) and any(words in end.outcome.failure.message for words in _LOST_A_PEER)


def waited_for(cause: WorkerExit, ended: Sequence[Place]) -> str:
    """Whom a rank may have waited for in vain, of those that were ended since it failed; "" if it did not wait."""
    if not isinstance(cause.outcome, Raised) or not _TIMED_OUT.search(cause.outcome.failure.message) or not ended:
        return ""
    return (
        f"{cause.place} waited in vain, and still at work were {listed(ended, _MOST_NAMED)}: "
        "a rank that did not come to a collective is among them"
    )


def exception_of(end: WorkerExit) -> Exception:
    """What ``run()`` raises for a worker's failure: the exception that it raised, or WorkerFailedError."""
    if isinstance(end.outcome, Raised):
        error = failures.rebuild(end.outcome.failure)
        known: Any = error
        known.rank, known.hostname, known.local_rank = end.place.rank, end.place.hostname, end.place.local_rank
        return error
    if isinstance(end.outcome, Exception):
        return end.outcome
    return _worker_failed(end)


def _worker_failed(end: WorkerExit) -> errors.WorkerFailedError:
    place, exit_ = end.place, end.exit
    parts = [f"rank {place.rank} on {place.hostname} {end.cause} (local rank {place.local_rank}, pid {end.pid})"]
    lines = tuple(exit_.last_lines)[-20:]
    if lines:
        parts += ["  its last lines:", *(f"    {line}" for line in lines)]
    if end.log_file is not None:
        parts.append(f"  log: {end.log_file}")
    error = errors.WorkerFailedError("\n".join(parts))
    error.rank, error.hostname, error.local_rank = place.rank, place.hostname, place.local_rank
    error.code = exit_.code
    error.signal = describe_signal(exit_.signal) if exit_.signal else None
    error.last_lines = lines
    error.log_file = str(end.log_file) if end.log_file is not None else None
    return error
