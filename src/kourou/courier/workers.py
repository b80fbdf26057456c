"""Daemon threads that run handlers.

Not ``concurrent.futures.ThreadPoolExecutor``: the interpreter joins its threads at exit, so one stuck handler
would keep the process alive for ever, and it refuses work while the process winds down.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

__all__ = ["WorkerPool"]

_log = logging.getLogger("kourou.courier")

Task: TypeAlias = Callable[[], object]


class WorkerPool:
    """At most ``size`` tasks at a time, in the order in which they came; threads start when they are needed.

    A thread that is not of the pool may take a slot and work in place of a pool thread (``try_enter``, ``leave``):
    that is how a connection's reader runs a handler itself without breaking the limit.

    Args:
        size: tasks that run at the same time.
        max_queue: tasks that may wait for a thread.
        name: of the threads, for debuggers.
    """

    def __init__(self, size: int, max_queue: int, name: str) -> None:
        if size < 1 or max_queue < 1:
            raise ValueError(f"a pool of {size} threads with room for {max_queue} tasks; both must be at least 1")
        self._size = size
        self._max_queue = max_queue
        self._name = name
        self._lock = threading.Lock()
        self._queue: deque[Task] = deque()
        self._idle: list[threading.Lock] = []  # one gate for each sleeping thread, the last to sleep is woken first
        self._threads = 0
        self._busy = 0
        self._stopped = False

    @property
    def queued(self) -> int:
        """Tasks that wait for a thread."""
        return len(self._queue)

    def submit(self, task: Task) -> bool:
        """Run ``task`` as soon as a thread is free. False when the queue is full or the pool has stopped."""
        with self._lock:
            if self._stopped or len(self._queue) >= self._max_queue:
                return False
            self._queue.append(task)
            number = self._hire()
        return not number or self._start(number)

    def try_enter(self) -> bool:
        """Take a slot for the calling thread, if one is free and nobody waits for it."""
        with self._lock:
            if self._stopped or self._queue or self._busy >= self._size:
                return False
            self._busy += 1
            return True

    def leave(self) -> None:
        """Give back the slot that ``try_enter`` took."""
        with self._lock:
            self._busy -= 1
            number = self._hire() if self._queue else 0
        if number:
            self._start(number)

    def stop(self) -> None:
        """Take no more tasks and drop those that wait. Threads end as soon as their handlers do."""
        with self._lock:
            self._stopped = True
            self._queue.clear()
            while self._idle:
                self._idle.pop().release()

    def _start(self, number: int) -> bool:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down, or the system has no more threads
            with self._lock:
                self._threads -= 1
                return self._threads > 0
        return True

    def _hire(self) -> int:
        """With the lock held: see that a thread comes for the queue. The number of the thread to start, or 0."""
        if self._busy >= self._size:
            return 0  # whoever is done first comes for it
        if self._idle:
            self._idle.pop().release()
            return 0
        if self._threads >= self._size:
            return 0
        self._threads += 1
        return self._threads

    def _work(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        while True:
            with self._lock:
                if self._queue and self._busy < self._size:
                    task = self._queue.popleft()
                    self._busy += 1
                elif self._stopped:
                    self._threads -= 1
                    return
                else:
                    self._idle.append(gate)
                    task = None
            if task is None:
                gate.acquire()
                continue
            try:
                task()
            except BaseException:  # noqa: BLE001 - tasks report errors themselves: this one has no other place to go
                _log.exception("a task of %s failed", self._name)
            finally:
                with self._lock:
                    self._busy -= 1
            del task  # or its arguments would live until the next one comes
