"""Exceptions that are raised in a thread from outside: where they may not be, and what an event loop gets instead."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from kourou import cpython, errors

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
_MOST_INTERRUPTS = 2  # one to interrupt and one to terminate; a node's end is made to bear so many at any moment
_shields: dict[int, bool] = {}  # threads that are not to be interrupted now → whether somebody wanted to
_shields_lock = cpython.renewed_in_children(threading.Lock())


def interrupt_thread(thread: threading.Thread) -> None:
    """Raise StopRequested in a thread, as soon as it runs Python code again: no thread can be made to leave a lock.

    What runs on an event loop there is cancelled first.
    """
    if thread.ident is None or not thread.is_alive():
        return
    with _shields_lock:
        if thread.ident in _shields:
            _shields[thread.ident] = True
            return
        loop = _loops.get(thread.ident)
        if loop is not None and loop.cancel():
            return
        cpython.set_async_exception(thread.ident, errors.StopRequested)
    if loop is not None:
        loop.wake()


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Let no interrupt tear the calling thread out of the body, half of whose work would stay; raise it at the end.

    One that comes just before is raised before the body begins.
    """
    ident = threading.get_ident()
    if ident in _shields:
        yield
        return
    wanted = False
    try:
        with _shields_lock:  # whoever was about to interrupt has done so when this is ours
            _shields[ident] = False
        _raise_what_is_due()
        yield
    finally:
        with _shields_lock:
            wanted = _shields.pop(ident, False)
    if wanted:
        raise errors.StopRequested


def _raise_what_is_due() -> None:
    """Nothing: the interpreter raises a due interrupt where a function begins."""


def forget_interrupt() -> None:
    """Take back what :func:`interrupt_thread` did to the calling thread, if that was not raised yet."""
    cpython.clear_async_exceptions()


class Interruptible:
    """Work that may be interrupted from outside while a thread does it, and ends once whenever that comes.

    Args:
        exception: what an interrupt raises in the work.
        interrupt: raises it in a thread.
    """

    def __init__(self, exception: type[BaseException], interrupt: Callable[[threading.Thread], None]) -> None:
        self._exception = exception
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None  # while it may be interrupted
        self._interrupts = 0

    def interrupt(self) -> None:
        """Interrupt it, as soon as it runs Python code again; work that has not begun never will."""
        with self._lock:
            self._interrupts += 1
            if self._thread is not None and self._interrupts <= _MOST_INTERRUPTS:
                self._interrupt(self._thread)

    def run(self, work: Callable[[], T]) -> T | None:
        """Do it, in the calling thread; what it returned, or None: it was interrupted. From then on nothing does."""
        result: T | None = None
        try:  # an interrupt may come just after the work as well, and another one while that is dealt with
            try:
                with self._lock:
                    self._thread = threading.current_thread()
                    wanted = not self._interrupts
                if wanted:
                    result = work()
                self._leave()
            except self._exception:
                self._leave()
            except BaseException:
                self._leave()
                raise
        except self._exception:
            self._leave()
        return result

    def _leave(self) -> None:
        with self._lock:
            self._thread = None
        forget_interrupt()


class _Loop:
    """An event loop that is running, and the task that it runs for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
        self._loop = loop
        self._task = task
        self._cancelled = False

    def cancel(self) -> bool:
        """Let the task be cancelled; False if that was done before."""
        if self._cancelled or self._task is None:
            return False
        self._cancelled = True
        self._call(self._task.cancel)
        return True

    def wake(self) -> None:
        """Let its thread run Python code, so that what is due there is raised."""
        self._call(lambda: None)

    def _call(self, function: Callable[[], Any]) -> None:
        with contextlib.suppress(RuntimeError):  # it has just been closed
            self._loop.call_soon_threadsafe(function)


_loops: dict[int, _Loop] = {}  # by the threads that they run in


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Its result, from an event loop of its own. The thread's first interrupt cancels it, the second one is raised."""
    import asyncio  # noqa: PLC0415 - it takes half as long as all else that a node imports, and few have coroutines

    async def cancellable() -> T:
        _loops[threading.get_ident()] = _Loop(asyncio.get_running_loop(), asyncio.current_task())
        try:
            return await coroutine
        finally:
            del _loops[threading.get_ident()]

    return asyncio.run(cancellable())


def interrupt_here() -> None:
    """Interrupt the thread that this is called in, by a signal handler; at the end of its shield, if it has one.

    Raises:
        StopRequested: there is no shield, and no event loop whose coroutine can be cancelled.
    """
    ident = threading.get_ident()
    if ident in _shields:  # without the lock, which what this came upon may hold
        _shields[ident] = True
        return
    loop = _loops.get(ident)
    if loop is None or not loop.cancel():
        raise errors.StopRequested
