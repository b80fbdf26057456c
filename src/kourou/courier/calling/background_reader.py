"""Looks after one connection of a client, for whatever no caller's thread waits for.

Callbacks run in a thread of their own: they are code of the user's, and unpickle what came, which may take its time.

It is lazy on purpose: while callers read their own answers it only looks in from time to time, since a thread that
woke for every answer would fight them for the interpreter.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from kourou.courier.calling.reply import Reply
from kourou.courier.core.background import Patrol

__all__ = ["Attendant"]

_log = logging.getLogger("kourou.courier")


class Attendant:
    """Runs the callbacks of futures, and ``attend`` for as long as that asks for it.

    Args:
        attend: one round of work; returns the seconds until the next one, or None when there is nothing to do.
        nap_s: after so many seconds of nothing to do it looks all the same; None for never.
    """

    def __init__(self, attend: Callable[[], float | None], nap_s: float | None) -> None:
        self._finished: deque[Reply] = deque()
        self._patrol = Patrol(attend, "kourou-attendant", nap_s)
        self._callbacks = Patrol(self._run_callbacks, "kourou-callbacks")
        self.call = self._patrol.call

    def notify(self, reply: Reply) -> None:
        """Run the callbacks of a finished future, here and not in the thread of whoever happened to read its answer."""
        self._finished.append(reply)
        self._callbacks.call(urgent=True)

    def stop(self) -> None:
        """End both threads after one more round."""
        self._patrol.stop()
        self._callbacks.stop()

    def _run_callbacks(self) -> None:
        while self._finished:
            reply = self._finished.popleft()
            try:
                reply.notify()
            except BaseException:  # noqa: BLE001 - a callback is the user's code, and must not end this thread
                _log.exception("a callback of %s failed", reply.method)
