"""Looks after one connection of a client, for whatever no caller's thread waits for.

It is lazy on purpose: while callers read their own answers it only looks in from time to time, since a thread that
woke for every answer would fight them for the interpreter.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from kourou.courier.patrol import Patrol
from kourou.courier.reply import Reply

__all__ = ["Attendant"]

_log = logging.getLogger("kourou.courier")


class Attendant:
    """Runs the callbacks of futures, and ``attend`` for as long as that asks for it.

    Args:
        attend: one round of work; returns the seconds until the next one, or None when there is nothing to do.
        nap_s: after so many seconds of nothing to do it looks all the same; None for never.
    """

    def __init__(self, attend: Callable[[], float | None], nap_s: float | None) -> None:
        self._attend = attend
        self._finished: deque[Reply] = deque()
        self._patrol = Patrol(self._round, "kourou-attendant", nap_s)
        self.call = self._patrol.call
        self.stop = self._patrol.stop

    def notify(self, reply: Reply) -> None:
        """Run the callbacks of a finished future, here and not in the thread of whoever happened to read its answer."""
        self._finished.append(reply)
        self.call(urgent=True)

    def _round(self) -> float | None:
        self._run_callbacks()
        pause_s = self._attend()
        return 0.0 if self._finished else pause_s

    def _run_callbacks(self) -> None:
        while self._finished:
            reply = self._finished.popleft()
            try:
                reply.notify()
            except Exception:  # noqa: BLE001 - a callback is the user's code, and must not end this thread
                _log.exception("a callback of %s failed", reply.method)
