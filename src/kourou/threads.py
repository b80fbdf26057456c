"""Starting threads, and what is said where the system allows no more of them, or no more processes."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from kourou import errors

if sys.platform != "win32":
    import resource

_NO_MORE = "can't start new thread"  # CPython's words; it does not tell errno, and others mean other things
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def start(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        LaunchError: the system allows no more of them; says which limits there are.
        RuntimeError: the interpreter is shutting down.
    """
    with starting(thread.name):
        thread.start()


@contextlib.contextmanager
def starting(name: str) -> Iterator[None]:
    """While entered, threads of an executor or of a library are started; raises as :func:`start` does."""
    try:
        yield
    except RuntimeError as error:
        if str(error) != _NO_MORE:
            raise
        raise errors.LaunchError(f"cannot start the thread {name}: {too_many()}") from error


def too_many() -> str:
    """Why the system may refuse one more process or thread, and what to do."""
    if sys.platform == "win32":
        return "there are too many"
    limits = []
    most, allowed = resource.getrlimit(resource.RLIMIT_NPROC)
    if most != resource.RLIM_INFINITY:
        if most == allowed:
            more = "which `ulimit -u` cannot raise, but root"
        else:
            more = f"up to {'any number' if allowed == resource.RLIM_INFINITY else allowed} after `ulimit -u`"
        limits.append(f"this user may have {most} processes and threads at once, {more}")
    if (most_of_cgroup := _pids_max()) is not None:
        limits.append(f"its cgroup may have {most_of_cgroup} of them (pids.max), which its container or job sets")
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if addresses != resource.RLIM_INFINITY:
        limits.append(f"this process may have {addresses >> 20} MiB of addresses (`ulimit -v`), stacks included")
    return "; ".join(limits) or "the system has no more: see `ulimit -u`, and kernel.threads-max"


def _pids_max() -> int | None:
    """The least that a cgroup of this process may have, where it can be read."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in _OWN_CGROUPS.read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in {"", "pids"}:
                continue
            top = _CGROUPS / controllers
            own = top / path.lstrip("/")
            for folder in (own, *own.parents):
                with contextlib.suppress(OSError, ValueError):
                    found.append(int((folder / "pids.max").read_text(encoding="ascii")))
                if folder == top:
                    break
    return min(found, default=None)
