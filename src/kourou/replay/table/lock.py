"""The lock of a server's tables, and what is to be done once it is free again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("kourou.replay")


class TableLock:
    """A reentrant lock. What is put off under it runs after it was released, in the thread that held it.

    Answers are put off: to send one may take time, and whoever hears it may come back at once. They are other clients'
    answers, so nothing that goes wrong with one is raised here.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._later: list[Callable[[], object]] = []

    def __enter__(self) -> TableLock:  # noqa: PYI034 - typing has Self from Python 3.11 on
        self._lock.acquire()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        ready: list[Callable[[], object]] = []
        if not self._depth and self._later:
            ready, self._later = self._later, ready
        self._lock.release()
        for action in ready:
            try:
                action()
            except Exception:  # noqa: BLE001 - this thread answers somebody else, and the others are still to be told
                _log.exception("an answer of a replay server failed")

    def after_release(self, action: Callable[[], object]) -> None:
        """Call this once the lock is free. Only for its holder."""
        self._later.append(action)
