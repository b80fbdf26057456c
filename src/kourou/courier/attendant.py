"""The background thread of one connection, for whatever no caller's thread waits for.

It is started by the first call that needs it, and it is lazy on purpose: while callers read their own answers it
only looks in from time to time, since a thread that woke for every answer would fight them for the interpreter.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from kourou.courier.reply import Reply

__all__ = ["ROUND_S", "Attendant"]

_log = logging.getLogger("kourou.courier")

ROUND_S = 2e-3  # how long an answer that nobody waits for may lie unread
_LINGER_ROUNDS = 50  # rounds without work before it sleeps: waking it again costs more than a few idle rounds


class Attendant:
    """Runs the callbacks of futures, and ``attend`` for as long as that asks for it.

    Args:
        attend: one round of work; returns the seconds until the next one, or None when there is nothing to do.
    """

    def __init__(self, attend: Callable[[], float | None]) -> None:
        self._attend = attend
        self._finished: deque[Reply] = deque()
        self._gate = threading.Lock()
        self._gate.acquire()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._awake = False
        self._stopped = False

    def patrol(self, *, urgent: bool = False) -> None:
        """See to it that somebody looks after the connection; at once if ``urgent``, else within a round."""
        if self._awake and not urgent:
            return
        self._awake = True
        if self._thread is None:
            self._start()
        try:
            self._gate.release()
        except RuntimeError:  # it is about to look anyway
            pass

    def notify(self, reply: Reply) -> None:
        """Run the callbacks of a finished future, here and not in the thread of whoever happened to read its answer."""
        self._finished.append(reply)
        self.patrol(urgent=True)

    def stop(self) -> None:
        """End, after the callbacks that are due."""
        self._stopped = True
        if self._thread is not None:
            self.patrol(urgent=True)

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="kourou-attendant", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down: those who wait still read for themselves
                return
            self._thread = thread

    def _run(self) -> None:
        idle = 0
        while True:
            self._run_callbacks()
            if self._stopped and not self._finished:
                return
            pause_s = self._attend()
            if self._finished:
                continue
            idle = idle + 1 if pause_s is None else 0
            if pause_s is not None:
                self._gate.acquire(timeout=pause_s)
            elif idle < _LINGER_ROUNDS:
                self._gate.acquire(timeout=ROUND_S)
            else:
                self._awake = False
                if self._attend() is None and not self._finished:  # a call may have come just before
                    self._gate.acquire()
                self._awake = True
                idle = 0

    def _run_callbacks(self) -> None:
        while self._finished:
            reply = self._finished.popleft()
            try:
                reply.notify()
            except Exception:
                _log.exception("a callback of %s failed", reply.method)
