"""Rotation of logs: ``0.log`` that is long enough becomes ``0.log.1``, that becomes ``0.log.2``, and the last is gone.

A file keeps its inode when it is renamed. By that a reader finds it again, whatever its name is by now.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import IO

from kourou import errors
from kourou.shown import shown

_MAX_BYTES = "KOUROU_LOG_MAX_BYTES"
_BACKUP_COUNT = "KOUROU_LOG_BACKUP_COUNT"
_MOST_LOOKS = 100  # until two in a row are the same; a log whose every line is rotated never holds still


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotation:
    """How much is kept of a log. The defaults are Ray's: at most 3 GiB a log."""

    max_bytes: int = 512 << 20
    """A log is rotated before it gets longer, unless its only line is. 512 MiB are an hour and a half of a thousand
    lines a second, and a pager still opens them."""
    backup_count: int = 5
    """How many are kept that were rotated; at least one, since the newest lines are what one looks for."""

    @classmethod
    def from_environment(cls) -> Rotation:
        """As KOUROU_LOG_MAX_BYTES and KOUROU_LOG_BACKUP_COUNT have it, or by default.

        Raises:
            PlanError: one of them is no whole number from 1 on.
        """
        return cls(
            max_bytes=_positive(_MAX_BYTES, cls.max_bytes), backup_count=_positive(_BACKUP_COUNT, cls.backup_count)
        )

    def rotate(self, path: Path) -> int:
        """Rename the log and its backups; the descriptor of a new one, for appending.

        Backups move up to the first number that is free: whoever is killed, or fails, leaves one free, and none is lost
        by another try.

        Raises:
            OSError: it cannot be done; the log is where it was.
        """
        free = 0
        while free < self.backup_count and os.path.lexists(backup(path, free)):
            free += 1
        for number in range(free, 0, -1):
            backup(path, number - 1).replace(backup(path, number))
        try:
            return open_to_append(path)
        except OSError:
            if free:
                backup(path, 1).replace(path)
            raise


def backup(path: Path, number: int) -> Path:
    """The log that was rotated so many times; with 0 the present one."""
    return path.with_name(f"{path.name}.{number}") if number else path


def open_to_append(path: Path) -> int:
    """The descriptor of a log, which is made where there is none; its end can be read as well."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def generations(path: Path) -> dict[int, Path]:
    """A log and its backups by their inodes, the newest first, as they were at one moment, also while it is rotated."""
    found = _look(path)
    for _ in range(_MOST_LOOKS):
        before, found = found, _look(path)
        if found == before:
            break
    return dict(found)


def open_if_same(path: Path, inode: int) -> IO[bytes] | None:
    """Open the file with that inode, if it has that name still."""
    with contextlib.suppress(FileNotFoundError):
        file = path.open("rb")
        if os.fstat(file.fileno()).st_ino == inode:
            return file
        file.close()
    return None


def _look(path: Path) -> list[tuple[int, Path]]:
    found, number, missing = [], 0, 0
    while missing <= 1:  # one may be: see Rotation.rotate
        name = backup(path, number)
        try:
            found.append((name.stat().st_ino, name))
            missing = 0
        except FileNotFoundError:
            missing += 1
        number += 1
    return found


def _positive(variable: str, default: int) -> int:
    given = os.environ.get(variable) or str(default)
    with contextlib.suppress(ValueError):
        if (number := int(given)) > 0:
            return number
    raise errors.PlanError(f"{variable}={shown(given)}: give a whole number from 1 on, or leave it out for {default}")
