"""Locks of open files: they belong to what was opened, and the system takes them back when its last user is gone.

Such a lock goes on as long as any descriptor or any mapping that was made of it, so memory that is mapped can hold its
own lock. Other than locks of a process, it is not lost when another part of the process closes the same file.
"""

from __future__ import annotations

import fcntl
import os
import struct

__all__ = ["is_locked", "try_exclusive", "try_shared", "unlock"]

_FLOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length (0: all of it), pid


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


def unlock(descriptor: int) -> None:
    """Give up the lock."""
    _try(descriptor, fcntl.F_UNLCK)


def _try(descriptor: int, kind: int, start: int = 0, length: int = 0) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True
