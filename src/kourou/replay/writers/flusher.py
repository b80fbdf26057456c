"""The thread that sends the last items of writers which have no more to write, or take their time."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Protocol

from kourou.courier.core.background import BackgroundLoop

_log = logging.getLogger("kourou.replay")

_SEND_AFTER_S = 0.005  # an item is sent after so long even if there are not enough for a message


class Sender(Protocol):
    """A writer, as the flusher sees it."""

    def send_pending(self) -> bool:
        """Send what waits; whether there was anything, or may have been."""
        ...


class Flusher:
    """One for a process; its thread starts with the first item, and ends with the last writer."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Look after nobody yet; in a child of fork once more: the writers are its parent's, and so is the thread."""
        self._writers: weakref.WeakSet[Sender] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._loop: BackgroundLoop | None = None

    def watch(self, writer: Sender) -> None:
        """Look after a writer until it is closed or gone."""
        with self._lock:
            self._writers.add(writer)
            if self._loop is None:
                self._loop = BackgroundLoop(self._send_pending, "kourou-replay-flusher")

    def forget(self, writer: Sender) -> None:
        """A writer was closed. With the last one, the thread ends."""
        with self._lock:
            self._writers.discard(writer)
            if not self._writers and self._loop is not None:
                self._loop.stop()
                self._loop = None

    def wake(self) -> None:
        """Some writer has items to be sent."""
        loop = self._loop
        if loop is not None:
            loop.wake()

    def _send_pending(self) -> float | None:
        with self._lock:
            writers = list(self._writers)
        return _SEND_AFTER_S if any([_send(writer) for writer in writers]) else None  # noqa: C419 - all of them


def _send(writer: Sender) -> bool:
    try:
        return writer.send_pending()
    except Exception:  # noqa: BLE001 - its own thread hears of it when it looks; other writers have nothing to do with it
        _log.exception("items of a replay writer could not be sent")
        return False


flusher = Flusher()
os.register_at_fork(after_in_child=flusher.begin)
