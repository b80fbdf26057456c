"""Looking at a run again and again, from threads of its own."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from kourou import errors, threads
from kourou.runtime.diagnosis.doctor import examine
from kourou.runtime.diagnosis.finding import Diagnosis
from kourou.runtime.files.event_follower import EventFollower
from kourou.runtime.metrics.reading import RowFollower
from kourou.runtime.metrics.rows import CONFIG, IMAGE, numbers_of
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.sampling import RunSample, Sampler
from kourou.shown import described

_FIRST_PAUSE_S = 0.2  # the first sample has no rates yet, so the second comes soon
_DIAGNOSIS_PAUSE_S = 2.0
_MOST_VALUES = 200
_END_S = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """A run at one moment."""

    sample: RunSample
    events: tuple[Mapping[str, Any], ...]
    """What has happened since the look before."""
    metrics: Mapping[tuple[str, str], tuple[float, ...]]
    """Node and metric → its latest values, the newest last."""


Sight: TypeAlias = Seen | Diagnosis | str
"""What is told: a look at the run, what the doctor says of it, or why there will be no more looks."""


class Follower:
    """Looks at a run until it has ended. Its owner closes it.

    Args:
        found: the run.
        tell: what takes each sight, called from the follower's threads.
        interval_s: between two looks.
    """

    def __init__(self, found: FoundRun, tell: Callable[[Sight], None], interval_s: float) -> None:
        self._found = found
        self._tell = tell
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._events = EventFollower(found.path)
        self._rows = RowFollower(found.info.metrics_dir or found.path)
        self._metrics: dict[tuple[str, str], deque[float]] = {}
        self._threads = [
            threading.Thread(target=self._guarded, args=(self._sample,), name="kourou-top", daemon=True),
            threading.Thread(target=self._guarded, args=(self._diagnose,), name="kourou-top-doctor", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            threads.start(thread)

    def close(self) -> None:
        """Look no more; one that waits for an answer of a node is left to it."""
        self._closed.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_END_S)

    def _guarded(self, look: Callable[[], None]) -> None:
        try:
            look()
        except (errors.KourouError, OSError) as error:  # the folder was deleted, say
            self._tell(described(error))

    def _sample(self) -> None:
        pause_s = _FIRST_PAUSE_S
        with Sampler(self._found) as sampler:
            while True:
                sample = sampler.sample()
                self._read_metrics()
                metrics = {key: tuple(values) for key, values in self._metrics.items()}
                self._tell(Seen(sample=sample, events=tuple(self._events.read()), metrics=metrics))
                if sample.status.state.over or self._closed.wait(pause_s):
                    return
                pause_s = self._interval_s

    def _diagnose(self) -> None:
        while True:
            state = self._found.state
            if state.live or state.over:
                self._tell(examine(self._found))
            if state.over or self._closed.wait(_DIAGNOSIS_PAUSE_S):
                return

    def _read_metrics(self) -> None:
        for row in self._rows.read():
            if CONFIG in row or IMAGE in row:
                continue
            for name, value in numbers_of(row).items():
                key = str(row.get("node", "")), name
                self._metrics.setdefault(key, deque(maxlen=_MOST_VALUES)).append(value)
