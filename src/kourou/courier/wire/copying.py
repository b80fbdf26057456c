"""Copying bytes: without the interpreter's lock, and with several cores where one cannot keep the memory busy."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from kourou import cpython
from kourou.courier.wire.buffer_pool import allocate
from kourou.cpython import imported

_LARGE = 256 << 10  # bytes in all; below this the lock is not worth giving up
_SMALL = 16 << 10  # bytes of one piece among many, likewise
_WORTH_A_THREAD = 8 << 20  # bytes; a thread starts and ends in the time in which half a MiB is copied
_MAX_THREADS = 4  # for one copy; then the memory of common machines is busy

Pairs: TypeAlias = Sequence[tuple[memoryview, Any]]


def fill(target: memoryview, source: Any) -> None:
    """Copy bytes into memory of their size; large pieces without the interpreter's lock, if NumPy is loaded."""
    fill_all([(target, source)])


def fill_all(pairs: Pairs) -> None:
    """As :func:`fill`, for any number of pieces, (target, source): they are one piece of work for all cores."""
    size = sum(len(target) for target, _ in pairs)
    numpy: Any = imported("numpy") if size >= _LARGE else None
    if numpy is None:  # so little that is large will come
        for target, source in pairs:
            target[:] = source
    elif size >= _WORTH_A_THREAD and hasattr(os, "sched_setaffinity"):
        _copy_side_by_side(functools.partial(_copy, numpy), pairs, size)
    else:
        _copy(numpy, pairs)


def _copy(numpy: Any, pairs: Pairs) -> None:
    for target, source in pairs:
        if len(target) < _SMALL:
            target[:] = source
        else:
            numpy.copyto(numpy.frombuffer(target, numpy.uint8), numpy.frombuffer(source, numpy.uint8))


def copied(source: Any) -> memoryview:
    """The same bytes in memory of their own."""
    copy = allocate(len(source))
    fill(copy, source)
    return copy


def _nothing() -> None:
    """What a helper has to do that has nothing to do."""


class _Helper:
    """A thread that copies when it is told to, on the cores it is told to use."""

    def __init__(self) -> None:
        self._task: Callable[[], None] = _nothing
        self._wanted = threading.Lock()
        self._done = threading.Lock()
        self._wanted.acquire()
        self._done.acquire()
        self._thread = 0
        cpython.start_unlisted_thread(self._work)
        self._done.acquire()

    def begin(self, task: Callable[[], None], cores: set[int]) -> None:
        """Begin to copy."""
        # It sleeps, so it will wake up on one of these. By itself it often wakes up behind the thread that woke it,
        # even if another core is free.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(self._thread, cores)
        self._task = task
        self._wanted.release()

    def end(self) -> None:
        """Wait until it is done."""
        self._done.acquire()

    def _work(self) -> None:
        self._thread = threading.get_native_id()
        while True:
            self._done.release()
            self._wanted.acquire()
            self._task()
            self._task = _nothing  # or it would keep the memory


_idle: list[_Helper] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


def _copy_side_by_side(copy: Callable[[Pairs], None], pairs: Pairs, size: int) -> None:
    """Copy with several cores of those that this process may use.

    Each is told once, and copies one stretch of all that there is, in pieces as large as can be: only in large ones
    the C library writes past the caches, and need not read what it is about to overwrite.
    """
    others = os.sched_getaffinity(0) - {_current_core()()}
    shares = _shares(pairs, -(-size // min(len(others) + 1, _MAX_THREADS)))
    helpers: list[_Helper] = []
    try:
        with contextlib.suppress(RuntimeError):  # no more threads, or the interpreter is shutting down
            while len(shares) > 1:
                try:
                    helper = _idle.pop()
                except IndexError:
                    helper = _Helper()
                helper.begin(functools.partial(copy, shares.pop()), others)
                helpers.append(helper)
        for share in shares:
            copy(share)
    finally:  # with Ctrl-C, too: nobody writes to the memory once the caller lets go of it
        for helper in helpers:
            helper.end()
        _idle.extend(helpers)


def _shares(pairs: Pairs, size: int) -> list[Pairs]:
    """The same, in the same order, in shares of so many bytes each; the last may be smaller."""
    shares: list[list[tuple[memoryview, Any]]] = [[]]
    room = size
    for target, given in pairs:
        start, source = 0, memoryview(given)
        while len(target) - start > room:
            shares[-1].append((target[start : start + room], source[start : start + room]))
            shares.append([])
            start, room = start + room, size
        shares[-1].append((target[start:], source[start:]))
        room -= len(target) - start
    return [*shares]


@functools.cache
def _current_core() -> Callable[[], int]:
    """The C library's function that says which core the calling thread runs on."""
    import ctypes  # noqa: PLC0415 - only for those who copy bulk

    return ctypes.CDLL(None).sched_getcpu
