"""What is known of a run: its state and how it came to it, reduced from the events of its sweep's journal."""

from __future__ import annotations

import dataclasses
import enum
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_MOST_SAID = 200  # characters


class RunState(str, enum.Enum):
    """PENDING → (QUEUED →) RUNNING → SUCCEEDED | FAILED | TIMEOUT | CANCELLED | INTERRUPTED | LOST."""

    PENDING = "PENDING"
    """Not started yet, or to be started again."""
    QUEUED = "QUEUED"
    """Handed to a batch system, which has not started it yet."""
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    """It exited with 0."""
    FAILED = "FAILED"
    """It exited otherwise, was killed, or could not be started."""
    TIMEOUT = "TIMEOUT"
    """It took longer than the time limit."""
    CANCELLED = "CANCELLED"
    """Somebody cancelled it; it stays out until asked for."""
    INTERRUPTED = "INTERRUPTED"
    """The sweep was stopped while it ran; the next launch runs it again."""
    LOST = "LOST"
    """Its launcher, or its host, died while it ran; the next launch runs it again."""

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs or will run in this launch."""
        return self not in {RunState.PENDING, RunState.QUEUED, RunState.RUNNING}

    @property
    def failed(self) -> bool:
        """True for FAILED and TIMEOUT."""
        return self in {RunState.FAILED, RunState.TIMEOUT}

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The present state of one run of a sweep."""

    run_id: str
    name: str
    folder: str
    setting: str = ""
    repeat: int = 0
    seed: int | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """As JSON holds them."""
    state: RunState = RunState.PENDING
    attempt: int = 0
    """1 for the first start; it counts over all launches."""
    retries: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How often it was started again by itself, by cause; a rerun that somebody asked for begins anew."""
    not_before: float = 0.0
    """Unix time before which it is not started again."""
    slot: int | None = None
    gpus: tuple[str, ...] | None = None
    """What CUDA_VISIBLE_DEVICES called its GPUs; None: nobody chose any for it."""
    pid: int | None = None
    host: str = ""
    job: str = ""
    """Its job in the batch system that it was handed to, such as ``1234_7``."""
    started_at: float | None = None
    """Unix time at which the latest attempt began, or was submitted."""
    ended_at: float | None = None
    code: int | None = None
    signal: str | None = None
    cause: str = ""
    """How the latest attempt ended, or why the next one has to wait, in words."""
    last_lines: tuple[str, ...] = ()
    """The end of its output, where it did not succeed."""

    @property
    def duration_s(self) -> float | None:
        """Seconds that the latest attempt took."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at

    @property
    def how_it_ended(self) -> str:
        """The cause, and what the run said last where that led to it: ``exited with 1: ValueError: no such env``."""
        said = next((line.strip() for line in reversed(self.last_lines) if line.strip()), "") if self.code else ""
        told = self.cause.partition(": ")[2]  # what could not start has written why, too
        return self.cause if not said or (told and said.endswith(told)) else f"{self.cause}: {said[:_MOST_SAID]}"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return {**dataclasses.asdict(self), "state": str(self.state)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a run."""

    kind: str
    """One of EVENTS."""
    run_id: str
    at: float
    """Unix time."""
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def without_launcher(record: RunRecord) -> RunRecord:
    """The record where nobody runs its sweep: what ran on this host is lost."""
    if record.state is not RunState.RUNNING or record.job:
        return record
    return dataclasses.replace(record, state=RunState.LOST, cause="its launcher died", pid=None)


def apply_event(record: RunRecord | None, event: Event) -> RunRecord:
    """The record after an event; None before the first one, which declares the run."""
    if record is None:
        return RunRecord(run_id=event.run_id, **event.data)
    return EVENTS[event.kind](record, event)


def _new_attempt(record: RunRecord, event: Event, state: RunState) -> RunRecord:
    gpus = event.data.get("gpus")
    return dataclasses.replace(
        record,
        state=state,
        attempt=event.data["attempt"],
        slot=event.data.get("slot"),
        gpus=None if gpus is None else tuple(gpus),
        host=event.data.get("host", ""),
        job=event.data.get("job", ""),
        started_at=event.at,
        pid=None,
        ended_at=None,
        code=None,
        signal=None,
        cause="",
        last_lines=(),
    )


def _ended(record: RunRecord, event: Event) -> RunRecord:
    data = dict(event.data)
    data["state"] = RunState(data["state"])
    data["last_lines"] = tuple(data.get("last_lines", ()))
    data.setdefault("ended_at", event.at)
    return dataclasses.replace(record, pid=None, **data)


def _retrying(record: RunRecord, event: Event) -> RunRecord:
    cause = event.data["cause"]
    retries = {**record.retries, cause: record.retries.get(cause, 0) + 1}
    return dataclasses.replace(
        record, state=RunState.PENDING, retries=retries, not_before=event.data.get("not_before", 0.0)
    )


EVENTS: Mapping[str, Callable[[RunRecord, Event], RunRecord]] = {
    "declared": lambda record, event: dataclasses.replace(record, **event.data),
    "submitted": lambda record, event: _new_attempt(record, event, RunState.QUEUED),
    "started": lambda record, event: _new_attempt(record, event, RunState.RUNNING),
    "running": lambda record, event: dataclasses.replace(record, state=RunState.RUNNING, **event.data),
    "ended": _ended,
    "retrying": _retrying,
    "waiting": lambda record, event: dataclasses.replace(record, cause=f"waits: {event.data['cause']}"),
    "rerun": lambda record, _: dataclasses.replace(
        record, state=RunState.PENDING, retries={}, not_before=0.0, cause=""
    ),
}
"""What can happen to a run, and what it makes of its record."""


_AGAIN = {RunState.INTERRUPTED, RunState.LOST}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Figures of a sweep at one moment."""

    total: int
    counts: Mapping[RunState, int]
    """Runs in each state, of the states that any is in."""
    eta_s: float | None
    """Seconds until all will have ended, if they take as long as those that have; None: too early to tell, or nothing
    runs."""

    @property
    def done(self) -> int:
        """Runs that have ended and will not be run again by themselves."""
        return sum(count for state, count in self.counts.items() if state.ended and state not in _AGAIN)


def progress_of(records: Iterable[RunRecord], *, parallel: int | None = None, now: float | None = None) -> Progress:
    """Count, and estimate."""
    listed = list(records)
    moment = time.time() if now is None else now
    counts = Counter(record.state for record in listed)
    took = [r.duration_s for r in listed if r.state is RunState.SUCCEEDED and r.duration_s is not None]
    running = [record for record in listed if record.state is RunState.RUNNING]
    waiting = counts[RunState.PENDING] + counts[RunState.QUEUED]
    eta_s = None
    if took and running:
        each = statistics.fmean(took)
        left = waiting * each + sum(max(0.0, each - (moment - (r.started_at or moment))) for r in running)
        eta_s = left / max(1, parallel or len(running))
    return Progress(total=len(listed), counts=dict(counts), eta_s=eta_s)
