"""Daemon threads that run handlers.

Not ``concurrent.futures.ThreadPoolExecutor``: the interpreter joins its threads at exit, so one stuck handler
would keep the process alive for ever, and it refuses work while the process winds down.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from numbers import Integral
from typing import Any, TypeAlias

from kourou import threads
from kourou.shown import shown

_log = logging.getLogger("kourou.courier")

Task: TypeAlias = Callable[[], object]


class _Worker:
    """A thread of the pool: where it sleeps, and what it does next."""

    __slots__ = ("gate", "task")

    def __init__(self, task: Task) -> None:
        self.task: Task | None = task
        self.gate = threading.Lock()
        self.gate.acquire()


class WorkerPool:
    """At most ``size`` tasks at a time, in the order in which they came; threads start when they are needed.

    A thread that is not of the pool may take a slot and work in place of a pool thread (``try_enter``, ``leave``):
    that is how a connection's reader runs a handler itself without breaking the limit.

    It has no lock: a signal handler may submit a task, too, in the midst of whatever its thread was doing here. Each
    step is one operation of a deque. Whoever adds a task or a slot looks for the other afterwards, so one of two sees
    both.

    Args:
        size: tasks that run at the same time.
        max_queue: tasks that may wait for a thread.
        name: of the threads, for debuggers.

    Attributes:
        on_wait: called when a task has to wait since no slot is free.
    """

    def __init__(self, size: int, max_queue: int, name: str) -> None:
        for what, number in (("thread_pool_size", size), ("max_queue", max_queue)):
            if not isinstance(number, Integral) or number < 1:
                raise ValueError(f"{what} is a whole number of at least 1, got {shown(number)}")
        self.size = size
        self.finished = 0  # tasks so far, more or less: it tells whether there is progress
        self._max_queue = max_queue
        self._name = name
        self.on_wait: Callable[[], None] = lambda: None
        self._queue: deque[Task] = deque()
        self._slots: deque[None] = deque([None] * size)  # that nobody has taken
        self._idle: deque[_Worker] = deque()  # the last to sleep is woken first
        self._numbers = itertools.count(1)
        self._stopped = False
        self._no_thread = ""  # why the last one that was wanted could not be started

    @property
    def queued(self) -> int:
        """Tasks that wait for a thread."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether tasks wait, and all slots are taken."""
        return bool(self._queue) and not self._slots

    @property
    def refusal(self) -> str:
        """Why :meth:`submit` does not take a task, in words that go on from whose pool it is."""
        return self._no_thread or f"has {self.queued} calls waiting"

    def submit(self, task: Task) -> bool:
        """Run ``task`` as soon as a thread is free.

        False when the queue is full, the pool has stopped, or there is no thread and none can be started.
        """
        if self._stopped or len(self._queue) >= self._max_queue:
            return False
        self._queue.append(task)
        if self._assign():
            return True
        with contextlib.suppress(ValueError):
            self._queue.remove(task)
            return False
        return True

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Make a call as a task; its future, which is cancelled where ``submit`` says False."""
        future: Future[Any] = Future()
        if not self.submit(functools.partial(_complete, future, functools.partial(function, *args, **kwargs))):
            future.cancel()
        return future

    def withdraw(self, wanted: Callable[[Task], bool]) -> list[Task]:
        """Take tasks out of the queue; no thread of the pool runs them any more."""
        found = []
        for task in list(self._queue):
            if wanted(task):
                with contextlib.suppress(ValueError):  # a thread was faster
                    self._queue.remove(task)
                    found.append(task)
        return found

    def try_enter(self) -> bool:
        """Take a slot for the calling thread, if one is free and nobody waits for it."""
        if self._queue or self._stopped:
            return False
        try:
            self._slots.pop()
        except IndexError:
            return False
        return True

    def leave(self) -> None:
        """Give back the slot that ``try_enter`` took."""
        self.finished += 1
        self._slots.append(None)
        if self._queue:
            self._assign()

    def grow(self, by: int) -> None:
        """Let more tasks run at the same time."""
        self.size += by
        self._slots.extend([None] * by)
        self._assign()

    def stop(self) -> None:
        """Take no more tasks and drop those that wait. Threads end as soon as their handlers do."""
        self._stopped = True
        self._queue.clear()
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().gate.release()

    def _assign(self) -> bool:
        """See that threads come for the tasks, as far as there are slots. False if there is no thread to be had."""
        while self._queue:
            try:
                self._slots.pop()
            except IndexError:
                self.on_wait()
                return True  # whoever is done first takes the next task
            try:
                task = self._queue.popleft()
            except IndexError:  # another thread was faster
                self._slots.append(None)
                continue
            if not self._give(task):
                self._queue.appendleft(task)
                self._slots.append(None)
                return len(self._slots) < self.size
        return True

    def _give(self, task: Task) -> bool:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(task)
            name = f"{self._name}-{next(self._numbers)}"
            try:
                threads.start(threading.Thread(target=self._work, args=(worker,), name=name, daemon=True))
            except RuntimeError as error:  # the interpreter is shutting down, or the system has no more threads
                self._no_thread = f"has no thread left for it: {error}"
                return False
            self._no_thread = ""
            return True
        worker.task = task
        worker.gate.release()
        return True

    def _work(self, worker: _Worker) -> None:
        while worker.task is not None:
            task, worker.task = worker.task, None
            try:
                task()
            except BaseException:  # noqa: BLE001 - tasks report errors themselves: this one has no other place to go
                _log.exception("a task of %s failed", self._name)
            del task  # or its arguments would live until the next one comes
            self.finished += 1
            with contextlib.suppress(IndexError):
                worker.task = self._queue.popleft()  # in the slot that this thread has
                continue
            self._idle.append(worker)  # before the slot is free, or a thread would be started for it
            self._slots.append(None)
            if self._queue:
                self._assign()
            if self._stopped:
                with contextlib.suppress(ValueError):
                    self._idle.remove(worker)
                    return
            worker.gate.acquire()


def _complete(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
        future.set_exception(error)
