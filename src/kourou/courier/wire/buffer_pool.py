"""Private memory for what arrives, used again and again.

The kernel needs far longer to provide fresh pages than a copy into warm ones takes, so large pieces are not given back
when their last user is gone, but kept for the next message of their size.
"""

from __future__ import annotations

import functools
import mmap
import pickle
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

_LARGE = 256 << 10  # bytes; below this the allocator does well enough
_MAX_IDLE_BYTES = 256 << 20  # memory that waits for its next use, at most


def allocate(size: int) -> memoryview:
    """Writable memory of this process, its contents undefined. It goes back when nobody uses it any more."""
    if size < _LARGE:
        return memoryview(bytearray(size))
    rounded = block_size(size)
    mapping = _pool.take(rounded) or mmap.mmap(-1, rounded)
    loan = loan_type(rounded).from_buffer(mapping)
    loan.owner, loan.key = _pool, mapping
    return pickle.PickleBuffer(loan).raw()[:size]


def block_size(size: int) -> int:
    """A rounder size for ``size`` bytes: four for each power of two, so that pieces fit again; a fifth more at most."""
    step = 1 << max(0, (size - 1).bit_length() - 3)
    return -(-size // step) * step


@functools.cache
def loan_type(size: int) -> Any:
    """The class of a block on loan: an object that exports its memory and tells ``owner`` when nobody uses it any more.

    NumPy and others keep the exporter of the memory they use alive, not the memoryview they were given, so the
    exporter has to be an object of ours; in Python, that is a ctypes array.
    """
    import ctypes  # noqa: PLC0415 - only for those who receive bulk

    return type("Loan", (ctypes.c_ubyte * size,), {"__del__": _give_back, "owner": None, "key": None})


def _give_back(loan: Any, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
    if loan.owner is not None and not _is_ending():
        loan.owner.take_back(loan.key)


class _Pool:
    """Mappings that wait for their next use, the latest first. Takes no locks: the garbage collector fills it."""

    def __init__(self) -> None:
        self._mappings: deque[mmap.mmap] = deque()

    def take(self, size: int) -> mmap.mmap | None:
        """One of exactly this size, if there is one."""
        for _ in range(len(self._mappings)):
            try:
                mapping = self._mappings.pop()
            except IndexError:  # another thread was faster
                return None
            if len(mapping) == size:
                return mapping
            self._mappings.appendleft(mapping)
        return None

    def take_back(self, mapping: mmap.mmap) -> None:
        """Keep one, and let go of the oldest ones when there are too many."""
        self._mappings.append(mapping)
        while sum(map(len, list(self._mappings))) > _MAX_IDLE_BYTES:
            try:
                self._mappings.popleft()
            except IndexError:
                return


_pool = _Pool()
