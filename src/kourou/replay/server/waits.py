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

from kourou.courier import current_call
from kourou.courier.core.background import BackgroundLoop
from kourou.errors import CallCancelled, DeadlineExceeded, RpcError
from kourou.replay.table.completion import Completion
from kourou.replay.table.requests import Request

_log = logging.getLogger("kourou.replay")

_MAINTENANCE_S = 0.25  # how soon the death of a client is noticed


class Waits:
    """The waits of a server's calls, and the thread that ends them, which also looks after the server now and then.

    Attributes:
        allowed: False once nobody is to wait any more.
    """

    def __init__(self, maintain: Callable[[], None]) -> None:
        self.allowed = True
        self._maintain = maintain
        self._lock = threading.Lock()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._loop = BackgroundLoop(self._tick, "kourou-replay-maintenance")
        self._call_in(_MAINTENANCE_S, self._round)

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
            self._call_in(timeout_s, functools.partial(_call, weakref.ref(give_up)))

    def error(self, why: str) -> RpcError:
        """What a call that was given up is answered."""
        return DeadlineExceeded(why) if self.allowed else CallCancelled(f"the server waits no more: {why}")

    def stop(self) -> None:
        """End the thread."""
        self._loop.stop()
        self._loop.join()

    def _call_in(self, time_s: float, action: Callable[[], object]) -> None:
        with self._lock:
            heapq.heappush(self._due, (time.monotonic() + time_s, next(self._order), action))
            is_next = self._due[0][2] is action
        if is_next:
            self._loop.wake(urgent=True)

    def _tick(self) -> float:
        """Do what is due; seconds until the next."""
        while True:
            with self._lock:
                due_s = self._due[0][0] - time.monotonic()
                if due_s > 0:
                    return due_s
                action = heapq.heappop(self._due)[2]
            try:
                action()
            except Exception:  # noqa: BLE001 - whatever went wrong, the others are still to be served
                _log.exception("the maintenance of a replay server failed")

    def _round(self) -> None:
        self._call_in(_MAINTENANCE_S, self._round)
        self._maintain()


def _call(give_up: weakref.ref[Callable[[], object]]) -> None:
    """Give up, unless that has ended before, with all that it was about: its time may be long."""
    if (still := give_up()) is not None:
        still()


def wanted_by_caller() -> Callable[[], bool]:
    """Whether the caller of the call that is being handled still waits for the answer."""
    cancelled = current_call().cancelled
    return lambda: not cancelled.is_set()
