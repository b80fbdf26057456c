"""Waiting for a table's limiter: how long a call may, and whether any call may wait at all."""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from kourou import threads
from kourou.courier import current_call
from kourou.errors import CallCancelled, DeadlineExceeded, RpcError
from kourou.replay.table.completion import Completion
from kourou.replay.table.requests import Request

_MAINTENANCE_S = 0.25  # how soon the death of a client is noticed


class Waits:
    """The waits of a server's calls.

    Attributes:
        allowed: False once nobody is to wait any more.
    """

    def __init__(self, maintain: Callable[[], None]) -> None:
        self.allowed = True
        self._maintenance = MaintenanceThread(maintain, _MAINTENANCE_S)

    def limit(
        self,
        answer: Completion[Any],
        timeout_s: float | None,
        give_up: Callable[[], object],
        requests: Sequence[Request],
    ) -> None:
        """Have a call that is not answered yet given up when its time is over, or now where nobody is to wait."""
        if answer.done():
            return
        for request in requests:
            request.give_up = give_up
        if not self.allowed or (timeout_s is not None and timeout_s <= 0):
            give_up()
        elif timeout_s is not None:
            self._maintenance.call_at(time.monotonic() + timeout_s, functools.partial(_call, weakref.ref(give_up)))

    def error(self, why: str) -> RpcError:
        """What a call that was given up is answered."""
        return DeadlineExceeded(why) if self.allowed else CallCancelled(f"the server waits no more: {why}")

    def stop(self) -> None:
        """End the thread."""
        self._maintenance.stop()


def _call(give_up: weakref.ref[Callable[[], object]]) -> None:
    """Give up, unless that has ended before, with all that it was about: its time may be long."""
    if (still := give_up()) is not None:
        still()


def wanted_by_caller() -> Callable[[], bool]:
    """Whether the caller of the call that is being handled still waits for the answer."""
    cancelled = current_call().cancelled
    return lambda: not cancelled.is_set()


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
        threads.start(self._thread)

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
