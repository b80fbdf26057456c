"""Finding and ending everything that a node started: its session, its children, and those that ran away from both.

A node leads a session of its own. A grandchild that made a session for itself is still found below the node while its
parents live, and by the cookie in its inherited environment once they are gone.

psutil is imported where it is needed, so that a zygote of commands is without it and without ``threading``, which it
brings along: their pages would be copied with every fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "COOKIE",
    "alive",
    "descendants",
    "escaped_from",
    "make_cookie",
    "members",
    "memory_bytes",
    "show_cookie",
    "signal_all",
]

COOKIE = "KOUROU_COOKIE"
"""Environment variable that every process of a node inherits; :func:`make_cookie` makes its value."""

_COOKIE_BYTES = 1024


def make_cookie(run_id: str, node: str = "", attempt: int = 0) -> str:
    """The mark of a node's processes; without a node, that of a helper, with room for a node's.

    It is ASCII: under LC_ALL=C nothing else may stand in an environment.
    """
    if not node:
        return f"{run_id}:".ljust(_COOKIE_BYTES)
    if not node.isascii():
        import hashlib  # noqa: PLC0415 - it brings OpenSSL along, which a zygote would start later for

        node = hashlib.sha256(node.encode(errors="surrogatepass")).hexdigest()
    return f"{run_id}:{node}:{attempt}:"


def show_cookie(cookie: str) -> None:
    """Write a cookie over the one that this process was started with, so that its forks show it as well.

    The kernel shows the environment that a process had when it was started, whatever was changed since; a fork without
    exec inherits that view. It is overwritten in place, as programs do that change their title.
    """
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return
    # Fields 50 and 51 are where the environment starts and ends; the name, which is in brackets, may hold anything.
    start, end = (int(field) for field in stat.read_text(errors="replace").rpartition(")")[2].split()[47:49])
    block = b"\0" + ctypes.string_at(start, end - start)
    at = block.find(f"\0{COOKIE}=".encode())
    if at < 0:
        return
    value_at = at + len(COOKIE) + 2
    room = block.index(b"\0", value_at) - value_at
    value = cookie.encode(errors="surrogateescape")
    if len(value) <= room:
        ctypes.memmove(start + value_at - 1, value.ljust(room), room)


def alive(pid: int) -> bool:
    """True unless the process is gone or a zombie (which is dead, only not yet reaped)."""
    import psutil  # noqa: PLC0415 - see the module's docstring

    try:
        return bool(psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})
    except psutil.Error:
        return False


def members(leader: int) -> list[int]:
    """The session that ``leader`` leads and all descendants of its processes, ``leader`` itself included."""
    import psutil  # noqa: PLC0415 - see the module's docstring

    found = {leader}
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == leader:
                found.add(pid)
    below = {child for pid in found for child in descendants(pid)}
    return sorted(found | below)


def memory_bytes(leader: int) -> int:
    """Resident memory, less what is shared (libraries, shared segments), of a process and all below it."""
    import psutil  # noqa: PLC0415 - see the module's docstring

    total = 0
    for pid in (leader, *descendants(leader)):
        with contextlib.suppress(psutil.Error):
            info = psutil.Process(pid).memory_info()
            total += info.rss - getattr(info, "shared", 0)
    return total


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    import psutil  # noqa: PLC0415 - see the module's docstring

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def escaped_from(cookie: str, among: Iterable[int] | None = None) -> list[int]:
    """Processes whose environment carries a cookie that starts with ``cookie`` (a run's id finds all of its nodes)."""
    import psutil  # noqa: PLC0415 - see the module's docstring

    found = []
    for pid in psutil.pids() if among is None else among:
        with contextlib.suppress(psutil.Error, OSError):
            if psutil.Process(pid).environ().get(COOKIE, "").startswith(cookie):
                found.append(pid)
    return found


def signal_all(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to each process that still exists; never to this one."""
    for pid in pids:
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
