"""What all connections of a server share: its methods, who runs them, and the calls that are not answered yet."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from kourou.courier.methods import MethodMetrics, MethodTable
from kourou.courier.workers import WorkerPool
from kourou.errors import CallCancelled

if TYPE_CHECKING:
    import asyncio

    from kourou.courier.session import RunningCall, Session

__all__ = ["Dispatcher"]

_LOOP_END_S = 1.0  # for coroutines to clean up when their server stops


class Dispatcher:
    """The server, as its connections see it.

    Args:
        name: the server's, for error messages.
        methods: what can be called.
        pool: runs the handlers.
        call_context: entered around every handler.
    """

    def __init__(
        self,
        name: str,
        methods: MethodTable,
        pool: WorkerPool,
        call_context: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self.name = name
        self.methods = methods
        self.pool = pool
        self.call_context = call_context
        self.stopping = False
        self._sessions: set[Session] = set()
        self._lock = threading.RLock()  # held for a moment, in which a signal handler may come
        self._loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[None]] = set()  # that run on it

    def open(self, session: Session) -> None:
        """A connection came."""
        with self._lock:
            self._sessions.add(session)

    def close(self, session: Session) -> None:
        """A connection is gone."""
        with self._lock:
            self._sessions.discard(session)

    def running(self) -> list[RunningCall]:
        """The calls that are not answered yet."""
        with self._lock:
            sessions = list(self._sessions)
        return [call for session in sessions for call in list(session.calls.values())]

    def metrics(self) -> dict[str, MethodMetrics]:
        """What happened to each method."""
        in_flight = Counter(call.method for call in self.running())
        return {method.name: method.metrics(in_flight[method]) for method in self.methods.all()}

    def fail_all(self, reason: str) -> None:
        """Answer every open call with ``CallCancelled`` and tell the handlers; they may run on, unheard."""
        for call in self.running():
            call.set()
            call.fail(CallCancelled(f"{call.name} of {self.name}: {reason}"))
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that runs coroutine handlers; started when the first one is called."""
        import asyncio  # noqa: PLC0415 - slow to import, and few servers have coroutines

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="kourou-asyncio", daemon=True).start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio  # noqa: PLC0415 - the loop is one of it

    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_LOOP_END_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
