"""Calling a user's function for every node that ended, in order, without holding up the director."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from kourou.runtime.interpreter.user_code import run_user_code
from kourou.runtime.model.records import ExitRecord

_log = logging.getLogger("kourou")

ExitCallback: TypeAlias = Callable[[ExitRecord], Any]

_LAST_CALL_S = 5.0  # a callback that hangs must not keep the run from ending


class ExitCallbacks:
    """Calls ``callback(record)`` in a thread of its own; None calls nothing."""

    def __init__(self, callback: ExitCallback | None) -> None:
        self._callback = callback
        self._records: queue.SimpleQueue[ExitRecord | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="kourou-on-node-exit", daemon=True)
        if callback is not None:
            self._thread.start()

    def put(self, record: ExitRecord) -> None:
        """A node has ended."""
        self._records.put(record)

    def close(self) -> None:
        """Let the calls for all records so far end; wait for them a few seconds at most."""
        if self._callback is not None:
            self._records.put(None)
            self._thread.join(_LAST_CALL_S)

    def _work(self) -> None:
        while (record := self._records.get()) is not None:
            try:
                if self._callback is not None:
                    run_user_code(self._callback, record)
            except Exception:  # noqa: BLE001 - a user's function; the next record is told all the same
                _log.exception("on_node_exit raised for %s", record.node)
