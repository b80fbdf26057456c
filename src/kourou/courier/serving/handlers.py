"""What runs a server's handlers: its methods, its pool of threads, and its event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from kourou import threads
from kourou.courier.serving.methods import MethodTable
from kourou.courier.serving.workers import WorkerPool

if TYPE_CHECKING:
    import asyncio

_LOOP_END_S = 1.0  # for coroutines to clean up when their server stops


class Handlers:
    """The same for all connections of a server.

    Args:
        context: entered around every handler.
    """

    def __init__(
        self,
        name: str,
        methods: MethodTable,
        pool: WorkerPool,
        context: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self.name = name
        self.methods = methods
        self.pool = pool
        self.context = context
        self.tasks: set[asyncio.Task[None]] = set()  # that run on the event loop, which itself would let go of them
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()  # held for a moment, in which a signal handler may come

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that runs coroutine handlers; started when the first one is called."""
        import asyncio  # noqa: PLC0415 - slow to import, and few servers have coroutines

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threads.start(threading.Thread(target=_run, args=(self._loop,), name="kourou-asyncio", daemon=True))
            return self._loop

    def end_loop(self) -> None:
        """Cancel the coroutines, and end the loop if it was started."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)


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
