"""An asyncio event loop in a thread of its own, for all sockets that one process watches."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from kourou import threads

T = TypeVar("T")


class LoopThread:
    """Runs from the beginning. Its owner closes it, after whatever uses it."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        with contextlib.ExitStack() as undo:
            undo.callback(self.loop.close)
            threads.start(self._thread)
            undo.pop_all()

    def post(self, function: Callable[[], object]) -> None:
        """Have something called there, soon and in order; returns at once. Once it is closed, nothing is."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function)

    def call(self, function: Callable[[], T]) -> T:
        """Have something called there, and wait for what it returns."""
        if threading.current_thread() is self._thread:
            return function()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                done.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return done.result()

    def close(self) -> None:
        """End the thread. Idempotent."""
        if self.loop.is_closed():
            return
        self.post(self.loop.stop)
        self._thread.join()
        self.loop.close()
