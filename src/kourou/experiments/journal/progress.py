"""How far a sweep has come, and when it may be done."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from kourou.experiments.journal.run_records import RunRecord, RunState

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
