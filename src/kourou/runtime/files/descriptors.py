"""File descriptors: how many this process may have, and what to say when something has run out."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys

from kourou.threads import too_many

if sys.platform != "win32":
    import resource

_PER_NODE = 8  # of a launcher: a process takes four (pipe, log, streams, a client), a thread's server six


def make_room_for_nodes(count: int) -> None:
    """Raise this launcher's soft limit of descriptors, as far as the hard one allows, to what so many more nodes take.

    The soft one is 1024 on most systems, for the sake of programs that use ``select``. It is raised no further than is
    needed: some programs go through all numbers below it when they start another one.
    """
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _open_now() + _PER_NODE * count
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


def with_remedy(error: OSError) -> str:
    """An error of the system, with what can be done about it."""
    if error.errno == errno.EMFILE and sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{error}; this process may have {soft} at once, and `ulimit -n` allows up to {hard}"
    if error.errno == errno.EAGAIN:
        return f"{error}; {too_many()}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{error}; the disk may be full"
    return str(error)


def _open_now() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))  # noqa: PTH208 - only their number
    return 0
