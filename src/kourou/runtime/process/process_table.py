"""Finding and ending everything that a node started: its session, its children, and those that ran away from both.

A node leads a session of its own. A grandchild that made a session for itself is still found below the node while its
parents live, and once they are gone by the cookie in its inherited environment, or, on Linux, by a mark that stays with
a process whatever it does to its environment.

psutil is imported where it is needed, so that a zygote of commands is without it and without ``threading``, which it
brings along: their pages would be copied with every fork.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from kourou import cpython, errors
from kourou.runtime.node_environment import COOKIE

if sys.platform != "win32":
    import resource

_COOKIE_BYTES = 1024
_MARK = 1 << 60  # microseconds: as a limit, 36,000 years
_ZOMBIES = frozenset("ZX")
_PROC = "/proc"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def check_proc() -> None:
    """Make sure that processes can be found here.

    Raises:
        LaunchError: on Linux, without /proc.
    """
    if sys.platform == "linux" and not Path(_PROC, "self", "stat").exists():
        raise errors.LaunchError(
            "kourou finds the processes of nodes in /proc, which is not mounted here: mount -t proc proc /proc "
            "(or launch_type='local_mt', which needs none)"
        )


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

    The kernel shows others that one, whatever was changed since. What is longer than :func:`make_cookie` made room for
    is not written.
    """
    cpython.overwrite_environment(COOKIE, cookie)


def alive(pid: int) -> bool:
    """True unless the process is gone or a zombie (which is dead, only not yet reaped)."""
    import psutil  # noqa: PLC0415 - see the module's docstring

    try:
        return bool(psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})
    except psutil.Error:
        return False


class ProcessTable:
    """All processes of this host at one moment, zombies left out. One pass over them answers all questions."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] = {}
        self._sessions: dict[int, list[int]] = {}
        for pid, parent, session in _read_proc() if sys.platform == "linux" else _ask_psutil():
            self._children.setdefault(parent, []).append(pid)
            self._sessions.setdefault(session, []).append(pid)

    def marked(self, nodes: Collection[int]) -> set[int]:
        """What bears the mark of one of these processes, see :func:`mark_own`."""
        return {pid for pids in self._children.values() for pid in pids if node_of(pid) in nodes}

    def below(self, *pids: int) -> set[int]:
        """Children, their children, and so on."""
        found: set[int] = set()
        todo = list(pids)
        while todo:
            children = [child for child in self._children.get(todo.pop(), ()) if child not in found]
            found.update(children)
            todo += children
        return found

    def members(self, *leaders: int) -> set[int]:
        """The sessions that they lead and all descendants of their processes, the leaders themselves included."""
        found = {*leaders, *(pid for leader in leaders for pid in self._sessions.get(leader, ()))}
        return found | self.below(*found)


def _read_proc() -> Iterator[tuple[int, int, int]]:
    """Process, parent and session of all that live."""
    for name in os.listdir(_PROC):  # noqa: PTH208 - thousands of Paths would be made
        if name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                descriptor = os.open(f"{_PROC}/{name}/stat", os.O_RDONLY)
                try:
                    # The name, which is in brackets, may hold anything.
                    state, parent, _, session = (
                        os.read(descriptor, 512).decode("latin-1").rpartition(")")[2].split()[:4]
                    )
                finally:
                    os.close(descriptor)
                if state not in _ZOMBIES:
                    yield int(name), int(parent), int(session)


def _ask_psutil() -> Iterator[tuple[int, int, int]]:
    import psutil  # noqa: PLC0415 - see the module's docstring

    for process in psutil.process_iter(["ppid", "status"]):
        with contextlib.suppress(OSError):
            if process.info["status"] not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
                yield process.pid, process.info["ppid"], os.getsid(process.pid)


def mark_own() -> None:
    """Mark this process, the first of a node, and with it all that it will start.

    The mark is a resource limit that nobody runs into: unlike an environment it is inherited by whatever a process
    starts, and unlike a session it is not left by setsid. Elsewhere than on Linux it could not be read.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):  # a smaller one was imposed on us
            hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
            resource.setrlimit(resource.RLIMIT_RTTIME, (_MARK + os.getpid(), hard))


def node_of(pid: int) -> int | None:
    """The process that :func:`mark_own` was called in, and that this one comes from; None: there is no mark."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            soft = resource.prlimit(pid, resource.RLIMIT_RTTIME)[0]
            return soft - _MARK if soft > _MARK else None
    return None


def memory_bytes(pids: Iterable[int]) -> int:
    """Resident memory of processes, less what is shared (libraries, shared segments)."""
    total = 0
    for pid in pids:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                _, resident, shared, *_ = Path(f"{_PROC}/{pid}/statm").read_text("ascii").split()
                total += (int(resident) - int(shared)) * _PAGE_BYTES
        else:
            import psutil  # noqa: PLC0415 - see the module's docstring

            with contextlib.suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
    return total


def escaped_from(cookie: str | tuple[str, ...], among: Iterable[int] | None = None) -> list[int]:
    """Processes whose environment carries a cookie that starts so, or in one of these ways.

    A run's id finds all of its nodes.
    """
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
