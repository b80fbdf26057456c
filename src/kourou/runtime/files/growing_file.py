"""A file that grows, and may be rotated: its end, and what is added to it."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import IO

from kourou.runtime.files.rotation import generations, open_if_same

LINES_MISSING = (
    "lines may be missing here: the log was rotated more often than it was read, and the oldest backups are gone; "
    "KOUROU_LOG_MAX_BYTES and KOUROU_LOG_BACKUP_COUNT keep more"
)
"""What a reader says where :meth:`GrowingFile.take_gap` tells of a gap."""

_LINES_BYTES = 1 << 22  # of whole lines at once
_MARK_BYTES = 64


def tail(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """The last bytes of a file; none where there is no such file."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - most_bytes))
            return file.read()
    except OSError:
        return b""


class GrowingFile:
    """What is added to a file, once each; also before there is one, and while it is rotated.

    Args:
        path: the file.
        offset: where to begin, in bytes; with 0 backups of the file come first.
    """

    def __init__(self, path: str | os.PathLike[str], offset: int = 0) -> None:
        self._path = Path(path)
        self._inode = self._inode_now() if offset else None  # of the file that is read, whatever its name is by now
        self._offset = offset if self._inode is not None else 0
        self._mark = b""  # what stands before the offset: a new file may get the inode of one that was deleted
        self._gap = False

    def begin(self, inode: int, offset: int) -> None:
        """Go on from there, in the file or one of its backups."""
        self._inode, self._offset, self._mark = inode, offset, b""

    def take_gap(self) -> bool:
        """Whether lines may be missing before what was read last: what they would follow is gone. It is told once."""
        gap, self._gap = self._gap, False
        return gap

    def read(self) -> bytes:
        """All that was added."""
        parts = []
        with contextlib.suppress(OSError):
            while True:
                file, newer = self._open()
                with file:
                    file.seek(self._offset)
                    parts.append(file.read())
                self._pass(parts[-1])
                if newer is None:
                    break
                self.begin(newer, 0)
        return b"".join(parts)

    def read_lines(self) -> bytes:
        """Whole lines that were added; a part of them, where there are many."""
        size = _LINES_BYTES
        while True:
            try:
                file, newer = self._open()
                with file:
                    data = os.pread(file.fileno(), size, self._offset)
            except OSError:
                return b""
            lines = data[: data.rfind(b"\n") + 1]
            self._pass(lines)
            if not lines and len(data) == size:
                size *= 2  # a line longer than that
            elif lines or newer is None:
                return lines
            else:
                self.begin(newer, 0)

    def _pass(self, data: bytes) -> None:
        self._offset += len(data)
        self._mark = (self._mark + data[-_MARK_BYTES:])[-_MARK_BYTES:]

    def _open(self) -> tuple[IO[bytes], int | None]:
        """Open the file that is read, and tell which one follows it; if one does, nothing is added to it any more."""
        while True:
            now = self._inode_now()
            found = {now: self._path} if now is not None and now == self._inode else generations(self._path)
            if not found:
                raise FileNotFoundError(self._path)
            newest_first = list(found)
            if self._inode not in found:
                if len(found) > 1:  # else it may be the same one, copied
                    self._forget()
                self._inode = newest_first[-1]
            file = open_if_same(found[self._inode], self._inode)
            if file is None:
                continue
            if os.pread(file.fileno(), len(self._mark), self._offset - len(self._mark)) == self._mark:
                place = newest_first.index(self._inode)
                return file, newest_first[place - 1] if place else None
            file.close()
            self._forget()  # it is another one

    def _forget(self) -> None:
        """What was read is gone: the oldest that is left is read next."""
        self._gap = self._gap or self._inode is not None
        self._inode, self._offset, self._mark = None, 0, b""

    def _inode_now(self) -> int | None:
        try:
            return self._path.stat().st_ino
        except OSError:
            return None
