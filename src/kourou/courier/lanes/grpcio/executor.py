"""The threads in which handlers of grpcio's servers run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias

_Task: TypeAlias = Callable[[], None]


class StreamThreads:
    """What grpcio asks of an executor: daemon threads that are used again, and more of them when all are busy.

    A pool of fixed size would be full once that many clients hold a stream. ``concurrent.futures`` joins its threads
    at exit and refuses work then.

    Args:
        reserve: threads to start now. On Python 3.12 none can be started once the main thread has ended.
    """

    def __init__(self, reserve: int = 1) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._spare = 0  # threads that wait for a task, less the tasks that wait for one of them
        self._threads = 0
        for _ in range(reserve):
            self._start()
            self._spare += 1

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the call in a thread that is free, or in a new one."""
        future: Future[Any] = Future()

        def task() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - the future carries it
                future.set_exception(error)

        with self._lock:
            # Taken here: a thread that was given a task, and has not woken yet, is not free for the next one.
            self._spare -= 1
            needs_thread = self._spare < 0
        self._tasks.put(task)
        if needs_thread and self._start():
            with self._lock:
                self._spare += 1
        return future

    def close(self) -> None:
        """Let idle threads end; busy ones end after their task."""
        for _ in range(self._threads):
            self._tasks.put(None)

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name="kourou-grpc-stream", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False  # the interpreter is ending, or there are no more: the task waits for one that is busy
        self._threads += 1
        return True

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            del task  # or its arguments would live until the next one comes
            with self._lock:
                self._spare += 1
