"""What is said where the system has no more of something: which limit it is, and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from kourou import errors

if sys.platform != "win32":
    import resource

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})
"""Of errors that :func:`with_remedy` says more about; whoever did nothing wrong may meet them anywhere."""

_NO_ROOM = "failed to map segment"  # of a library, in the dynamic linker's words
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def with_remedy(error: OSError) -> str:
    """An error of the system, with what can be done about it."""
    if error.errno == errno.EMFILE and sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{error}; this process may have {soft} at once, and `ulimit -n` allows up to {hard}"
    if error.errno == errno.EAGAIN:
        return f"{error}; {too_many()}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = f": {free_on_disk(Path(error.filename).parent)}" if isinstance(error.filename, str) else ""
        return f"{error}; the disk may be full{free}"
    return str(error)


def free_on_disk(folder: Path) -> str:
    """How much room the disk of a folder has, for its blocks and for its files."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return f"nobody knows what is free there: {error}"
    files = f" and {disk.f_favail} files" if disk.f_files else ""  # some file systems count none
    return f"{disk.f_bavail * disk.f_frsize >> 10} KiB{files} are free on the disk of {folder} (a quota may leave less)"


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """While entered, what has run out becomes an error that says so.

    Args:
        what: cannot be done without it, such as "run the sweep in FOLDER".

    Raises:
        LaunchError: there are no more descriptors, processes, threads, or no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in EXHAUSTED or isinstance(error, errors.KourouError):
            raise
        raise errors.LaunchError(f"cannot {what}: {with_remedy(error)}") from error


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
    if addresses := _most_addresses():
        limits.append(f"{addresses}, stacks included")
    return "; ".join(limits) or "the system has no more: see `ulimit -u`, and kernel.threads-max"


def of_addresses(error: BaseException) -> str:
    """The limit that may have brought about an error that names none, such as MemoryError; empty: there is none."""
    refused = (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, ImportError) and _NO_ROOM in str(error))
    )
    return _most_addresses() if refused else ""


def _most_addresses() -> str:
    if sys.platform == "win32" or (most := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return ""
    return f"this process may have {most >> 20} MiB of addresses (`ulimit -v`)"


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
