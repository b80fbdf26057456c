"""Locks of open files: they belong to what was opened, and the system takes them back when its last user is gone.

Such a lock goes on as long as any descriptor or any mapping that was made of it, so memory that is mapped can hold its
own lock. Other than locks of a process, it is not lost when another part of the process closes the same file.
"""

from __future__ import annotations

import fcntl
import os
import struct
import weakref
from collections.abc import Set as AbstractSet
from pathlib import Path

from kourou.shared_files import OpenedFile

_FLOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length (0: all of it), pid

_alone: weakref.WeakSet[OpenedFile] = weakref.WeakSet()


def alone(file: OpenedFile) -> OpenedFile:
    """Have a file closed in children of a fork: else it would be locked for as long as the child lives."""
    _alone.add(file)
    return file


def _close_in_child() -> None:
    for file in list(_alone):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def try_shared(descriptor: int) -> bool:
    """Lock a file, open for reading, with others who do the same; False while somebody has it alone."""
    return _try(descriptor, fcntl.F_RDLCK)


def try_exclusive(descriptor: int, start: int = 0, length: int = 0) -> bool:
    """Lock a file, open for writing, alone; False while anybody else has a lock of it.

    Args:
        descriptor: of the file.
        start: of the part that is locked.
        length: of it; 0: all that there is.
    """
    return _try(descriptor, fcntl.F_WRLCK, start, length)


def is_locked(descriptor: int, start: int, length: int) -> bool:
    """Whether somebody else has a lock of a part of a file."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, *_ = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)


def _try(descriptor: int, kind: int, start: int = 0, length: int = 0) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def processes_that_map(inodes: AbstractSet[int]) -> list[int]:
    """The processes of this user that read any of these files: publishers map them as well, but not for themselves."""
    wanted = {str(inode) for inode in inodes}
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            lines = (folder / "maps").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # it has ended, or is another user's
            continue
        fields = [line.split() for line in lines if "kourou-weights" in line]
        if any(access.endswith("p") and inode in wanted for _, access, _, _, inode, *_ in fields):
            found.append(int(folder.name))
    return sorted(found)
