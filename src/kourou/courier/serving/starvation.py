"""Tells when calls wait for a thread and none becomes free, and lets the pool grow where nobody has set its size.

Handlers that wait for other calls (a barrier, nodes that call each other back) would otherwise wait for ever, and
nobody would know why.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable

from kourou.courier.core.background import BackgroundLoop
from kourou.courier.serving.call import RunningCall
from kourou.courier.serving.execution import run_hidden
from kourou.courier.serving.workers import WorkerPool
from kourou.waits import PATIENCE_S

_log = logging.getLogger("kourou.courier")

_TICK_S = 0.25
_GROW_AFTER_S = 1.0  # without a single handler having finished
_MAX_THREADS = 1024  # to which a pool grows by itself


class StarvationMonitor:
    """Looks after one server's pool, in a thread that sleeps unless calls wait.

    Args:
        may_grow: nobody has said how many threads there shall be.
    """

    def __init__(
        self, name: Callable[[], str], pool: WorkerPool, running: Callable[[], list[RunningCall]], *, may_grow: bool
    ) -> None:
        self._name = name
        self._pool = pool
        self._running = running
        self._may_grow = may_grow
        self._since = 0.0  # when a handler last finished, or the pool grew
        self._finished = -1
        self._warned: set[frozenset[str]] = set()
        self._loop = BackgroundLoop(self._tick, "kourou-starvation")
        self.wake = self._loop.wake
        self.stop = self._loop.stop

    def _tick(self) -> float | None:
        """One look. Seconds until the next; None when nobody waits."""
        pool, now = self._pool, time.monotonic()
        if not pool.is_full:
            self._finished = -1
            return None
        run_hidden(pool)  # what people ask the server about itself, for which there is no thread
        if pool.finished != self._finished:
            self._finished, self._since = pool.finished, now
        elif self._may_grow and now - self._since >= _GROW_AFTER_S and pool.size < _MAX_THREADS:
            self._since = now
            pool.grow(min(pool.size, pool.queued, _MAX_THREADS - pool.size))
        elif now - self._since >= PATIENCE_S:
            self._warn()
        return _TICK_S

    def _warn(self) -> None:
        calls, now = self._running(), time.perf_counter()
        at_work = [call for call in calls if call.since and call.task is None]  # coroutines have no thread
        kinds = frozenset(call.name for call in at_work)
        if kinds in self._warned:
            return  # once for each such situation
        self._warned.add(kinds)
        oldest_s = max((now - call.since for call in at_work), default=0.0)
        waiting = [call.name for call in calls if not call.since]
        _log.warning(
            "%s: all %d threads run %s (the longest for %.0f s), and %d calls wait for one (%s); more threads: "
            "CourierNode(courier_kwargs={'thread_pool_size': %d}); none at all: make the method async",
            self._name(),
            self._pool.size,
            _counted(call.name for call in at_work),
            oldest_s,
            self._pool.queued,
            _counted(waiting),
            2 * self._pool.size + self._pool.queued,
        )


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} ×{count}" for name, count in Counter(names).most_common(5)) or "nothing that is known"
