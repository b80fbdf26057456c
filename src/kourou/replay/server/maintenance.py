"""The thread of a server that ends waits whose time is over, and does periodic work."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger("kourou.replay")


class MaintenanceThread:
    """Timers, and one periodic call."""

    def __init__(self, maintain: Callable[[], None], every_s: float) -> None:
        self._maintain = maintain
        self._every_s = every_s
        self._news = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="kourou-replay-maintenance", daemon=True)
        self._thread.start()

    def call_at(self, deadline: float, action: Callable[[], object]) -> None:
        """Run ``action`` at that time of ``time.monotonic()``, or soon after."""
        with self._news:
            heapq.heappush(self._due, (deadline, next(self._order), action))
            if self._due[0][2] is action:
                self._news.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._news:
            self._stopped = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        next_round = time.monotonic() + self._every_s
        while True:
            with self._news:
                if self._stopped:
                    return
                wake = min(next_round, self._due[0][0]) if self._due else next_round
                self._news.wait(max(0.0, wake - time.monotonic()))
                now = time.monotonic()
                ready = []
                while self._due and self._due[0][0] <= now:
                    ready.append(heapq.heappop(self._due)[2])
            if now >= next_round:
                ready.append(self._maintain)
                next_round = now + self._every_s
            for action in ready:
                try:
                    action()
                except Exception:  # noqa: BLE001 - whatever went wrong, the others are still to be served
                    _log.exception("the maintenance of a replay server failed")
