"""A process's own folder for sockets and the like, gone with the process however that ends.

Whoever is killed cannot tidy up, so everyone tidies up after those who were: a folder is in use for as long as a lock
on it is held, which the kernel sees to. Cleaners of temporary files (systemd-tmpfiles) leave a locked folder alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from kourou.courier.lanes.local import socket_file

_PREFIX = "r-"  # of what may be removed once it is not locked


class ScratchFolder:
    """A private folder with a short path, as sockets need (107 bytes).

    Making one removes those of processes that were killed. It lies in ``XDG_RUNTIME_DIR``, else in the folder for
    temporary files.

    Raises:
        LaunchError: the folder of this user belongs to somebody else.
    """

    def __init__(self) -> None:
        home = Path(socket_file.default_folder())
        for other in home.glob(f"{_PREFIX}*"):
            _remove_if_unused(other)
        self.path, self._lock = _locked_folder(home)

    def remove(self) -> None:
        """Remove the folder with all that is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked_folder(home: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        with contextlib.suppress(FileNotFoundError):
            lock = _open(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)  # somebody took it for an old one, in the moment before it was locked


def _remove_if_unused(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is in use, or just gone
        lock = _open(folder)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
