"""A background thread that costs nothing while it has nothing to do, and little while it has."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable

from kourou import threads

_log = logging.getLogger("kourou.courier")

TICK_S = 2e-3  # between two ticks: how long work may wait
_IDLE_TICKS = 50  # rounds without work before it sleeps: waking it again costs more than a few idle rounds


class BackgroundLoop:
    """Calls ``tick`` again and again while there is work, in a daemon thread that starts with the first wake.

    Args:
        tick: one round of work; returns the seconds until the next one, or None when there is nothing to do.
        idle_s: after so many seconds of nothing to do it looks all the same; None for never.
    """

    def __init__(self, tick: Callable[[], float | None], name: str, idle_s: float | None = None) -> None:
        self._tick = tick
        self._idle_s = -1 if idle_s is None else idle_s
        self._name = name
        self._gate = threading.Lock()
        self._gate.acquire()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._awake = False
        self._stopped = False

    def wake(self, *, urgent: bool = False) -> None:
        """There is work: it is seen to at once if ``urgent``, else within a round. Takes no lock once started."""
        if self._awake and not urgent:
            return
        self._awake = True
        if self._thread is None:
            self._start()
        with contextlib.suppress(RuntimeError):  # it is about to look anyway
            self._gate.release()

    def stop(self) -> None:
        """End after one more round."""
        self._stopped = True
        if self._thread is not None:
            self.wake(urgent=True)

    def join(self) -> None:
        """Wait for that."""
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it, or this one, and was interrupted
        try:
            if self._thread is not None or sys.is_finalizing():
                return  # at the interpreter's end a new thread never gets to run, and whoever starts it waits for ever
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                threads.start(thread)
            except RuntimeError:  # the interpreter is shutting down, or there are no more threads at present
                self._awake = False  # so that the next wake tries again
                return
            self._thread = thread
        finally:
            self._starting.release()

    def _run(self) -> None:
        idle = 0
        while True:
            last = self._stopped
            pause_s = self._run_tick()
            if last:
                return
            if pause_s is not None:
                idle = 0
                self._gate.acquire(timeout=pause_s)
                continue
            idle += 1
            if idle < _IDLE_TICKS:
                self._gate.acquire(timeout=TICK_S)
                continue
            self._awake = False
            # One tick more, for work that came before the flag was cleared.
            called = self._run_tick() is not None or self._gate.acquire(timeout=self._idle_s)
            self._awake = True
            idle = 0 if called else _IDLE_TICKS

    def _run_tick(self) -> float | None:
        try:
            return self._tick()
        except Exception:  # noqa: BLE001 - the next round may go well; without this thread, none would
            _log.exception("a round of %s failed", self._name)
            return TICK_S
