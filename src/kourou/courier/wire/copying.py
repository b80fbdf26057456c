"""Copying bytes: without the interpreter's lock, and with several cores where one cannot keep the memory busy."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from kourou import cpython

_LARGE = 256 << 10  # bytes; below this the lock is not worth giving up
_WORTH_A_THREAD = 8 << 20  # bytes; a thread starts and ends in the time in which half a MiB is copied
_MAX_THREADS = 4  # for one copy; then the memory of common machines is busy


def fill(target: memoryview, source: Any) -> None:
    """Copy bytes into memory of their size; large pieces without the interpreter's lock, if NumPy is loaded."""
    numpy: Any = sys.modules.get("numpy") if len(target) >= _LARGE else None
    if not hasattr(numpy, "copyto"):  # it is not loaded, so little that is large will come; or just being loaded
        target[:] = source
        return
    to, of = numpy.frombuffer(target, numpy.uint8), numpy.frombuffer(source, numpy.uint8)
    if len(to) >= _WORTH_A_THREAD and hasattr(os, "sched_setaffinity"):
        _copy_side_by_side(numpy.copyto, to, of)
    else:
        numpy.copyto(to, of)


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


def _copy_side_by_side(copyto: Callable[[Any, Any], None], target: Any, source: Any) -> None:
    """Copy with several cores of those that this process may use.

    Each copies one piece, as large as can be: only in large ones the C library writes past the caches, and need not
    read what it is about to overwrite.
    """
    others = os.sched_getaffinity(0) - {_current_core()()}
    step = -(-len(target) // min(len(others) + 1, _MAX_THREADS))
    pieces = [(target[start : start + step], source[start : start + step]) for start in range(0, len(target), step)]
    helpers: list[_Helper] = []
    with contextlib.suppress(RuntimeError):  # no more threads, or the interpreter is shutting down
        while len(pieces) > 1:
            try:
                helper = _idle.pop()
            except IndexError:
                helper = _Helper()
            helper.begin(functools.partial(copyto, *pieces.pop()), others)
            helpers.append(helper)
    for piece in pieces:
        copyto(*piece)
    for helper in helpers:
        helper.end()
    _idle.extend(helpers)


@functools.cache
def _current_core() -> Callable[[], int]:
    """The C library's function that says which core the calling thread runs on."""
    import ctypes  # noqa: PLC0415 - only for those who copy bulk

    return ctypes.CDLL(None).sched_getcpu
