"""File descriptors: how many this process may have, and whether one can be read."""

from __future__ import annotations

import contextlib
import os
import select
import sys

if sys.platform != "win32":
    import resource

_PER_PROCESS = 8  # of a launcher: a node takes four (pipe, log, streams, a client), one that is a thread six


def make_room_for_processes(count: int) -> None:
    """Raise this launcher's soft limit of descriptors, as far as the hard one allows, for so many more processes.

    The soft one is 1024 on most systems, for the sake of programs that use ``select``. It is raised no further than is
    needed: some programs go through all numbers below it when they start another one.
    """
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _open_now() + _PER_PROCESS * count
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_readable(descriptor: int, timeout_s: float) -> bool:
    """Wait until there is something to read, or the end; whatever the descriptor's number is."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _open_now() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))  # noqa: PTH208 - only their number
    return 0
