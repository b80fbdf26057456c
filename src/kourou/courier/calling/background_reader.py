"""Reads one connection of a client, for whatever no caller's thread waits for.

Callbacks run in a thread of their own: they are code of the user's, and unpickle what came, which may take its time.

It is lazy on purpose: while callers read their own answers it only looks in from time to time, since a thread that
woke for every answer would compete with them for the interpreter.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from kourou.courier.calling.reply import Reply
from kourou.courier.core.background import BackgroundLoop

_log = logging.getLogger("kourou.courier")


class BackgroundReader:
    """Runs the callbacks of futures, and ``tick`` for as long as that asks for it."""

    def __init__(self, tick: Callable[[], float | None], idle_s: float | None) -> None:
        self._finished: deque[Reply] = deque()
        self._loop = BackgroundLoop(tick, "kourou-background", idle_s)
        self._callbacks = BackgroundLoop(self._run_callbacks, "kourou-callbacks")
        self.wake = self._loop.wake

    def notify(self, reply: Reply) -> None:
        """Run the callbacks of a finished future, here and not in the thread of whoever happened to read its answer."""
        self._finished.append(reply)
        self._callbacks.wake(urgent=True)

    def stop(self) -> None:
        """End both threads after one more round."""
        self._loop.stop()
        self._callbacks.stop()

    def _run_callbacks(self) -> None:
        while self._finished:
            reply = self._finished.popleft()
            try:
                reply.notify()
            except BaseException:  # noqa: BLE001 - a callback is the user's code, and must not end this thread
                _log.exception("a callback of %s failed", reply.method)
