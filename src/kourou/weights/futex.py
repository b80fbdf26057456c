"""Sleeping until a word of shared memory changes: whoever changes it has the system wake all who sleep there."""

from __future__ import annotations

import functools
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

_SYSCALLS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
_WAIT, _WAKE, _EVERYBODY = 0, 1, (1 << 31) - 1
_NAP_S = 0.001  # where that is not known


def sleep_while(word: memoryview, value: int, timeout_s: float) -> None:
    """Sleep, for so long at most, if a word (of 32 bits, in memory that can be written) is a value. It may be less."""
    futex = _futex()
    if futex is None:
        time.sleep(min(_NAP_S, timeout_s))
    else:
        futex(word, _WAIT, value, timeout_s)


def wake_all(word: memoryview) -> None:
    """Wake all that sleep there, in whatever process."""
    futex = _futex()
    if futex is not None:
        futex(word, _WAKE, _EVERYBODY, 0.0)


@functools.cache
def _futex() -> Callable[[memoryview, int, int, float], None] | None:
    number = _SYSCALLS.get(platform.machine())
    if number is None or sys.maxsize < 1 << 32:  # a system of 64 bits may run programs of 32
        return None
    import ctypes  # noqa: PLC0415 - only for those who publish or wait

    syscall: Any = ctypes.CDLL(None).syscall

    def call(word: memoryview, what: int, value: int, timeout_s: float) -> None:
        whole_s = int(timeout_s)
        timeout = (ctypes.c_int64 * 2)(whole_s, int(1e9 * (timeout_s - whole_s)))
        address = ctypes.c_uint32.from_buffer(word)
        # That the word has changed, a signal or the end of the time is all one: the caller looks again.
        syscall(ctypes.c_long(number), ctypes.byref(address), what, value, ctypes.byref(timeout), None, 0)

    return call
