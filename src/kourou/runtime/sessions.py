"""Finding and ending everything that a node started: its session, its children, and those that ran away from both.

A node leads a session of its own. A grandchild that made a session for itself is still found below the node while its
parents live, and by the cookie in its inherited environment once they are gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

import psutil

__all__ = ["COOKIE", "alive", "descendants", "escaped_from", "members", "memory_bytes", "signal_all"]

COOKIE = "KOUROU_COOKIE"
"""Environment variable that every process of a node inherits: ``run id:node:attempt``."""


def alive(pid: int) -> bool:
    """True unless the process is gone or a zombie (which is dead, only not yet reaped)."""
    try:
        return bool(psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})
    except psutil.Error:
        return False


def members(leader: int) -> list[int]:
    """The session that ``leader`` leads and all descendants of its processes, ``leader`` itself included."""
    found = {leader}
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == leader:
                found.add(pid)
    below = {child for pid in found for child in descendants(pid)}
    return sorted(found | below)


def memory_bytes(leader: int) -> int:
    """Resident memory, less what is shared (libraries, shared segments), of a process and all below it."""
    total = 0
    for pid in (leader, *descendants(leader)):
        with contextlib.suppress(psutil.Error):
            info = psutil.Process(pid).memory_info()
            total += info.rss - getattr(info, "shared", 0)
    return total


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def escaped_from(cookie: str, among: Iterable[int] | None = None) -> list[int]:
    """Processes whose environment carries a cookie that starts with ``cookie`` (a run's id finds all of its nodes)."""
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
