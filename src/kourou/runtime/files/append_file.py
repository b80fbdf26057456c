"""A file that grows line by line, up to a size where another one takes its place, and whose disk may be full."""

from __future__ import annotations

import math
import os
from pathlib import Path

from kourou.runtime.files.rotation import Rotation, open_to_append

LONGEST_LINE = 1 << 16
"""Longer lines of nodes are cut in pieces, so that one who prints no newline costs no memory."""


class AppendFile:
    """Lines go to the file at once and whole. Those that the disk has no room for are lost, and nothing is raised.

    Nothing is kept back for later either: a buffer would grow while the disk is full, and fail once more when it is
    closed.

    Args:
        errors: what becomes of text that is no UTF-8.
        rotation: how it is rotated, by this process only; None: never.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, errors: str, rotation: Rotation | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._rotation = path, rotation
        self._descriptor = open_to_append(path)
        self._errors = errors
        self._size = os.fstat(self._descriptor).st_size
        # The last line was written in part, by this process or one before.
        self._torn = self._size > 0 and os.pread(self._descriptor, 1, self._size - 1) != b"\n"
        self._most: float = rotation.max_bytes if rotation else math.inf
        self.error: OSError | None = None
        """Why a line was lost, if the system said so."""
        self.rotation_error: OSError | None = None
        """Why it was not rotated, and grows."""

    def append(self, line: str) -> bool:
        """Write a line, given without its newline. False when it is lost, or a part of it."""
        if self._descriptor < 0:
            return False
        try:
            data = f"{line}\n".encode(errors=self._errors)
        except UnicodeEncodeError:  # halves of UTF-16's pairs, which stand for no byte
            data = f"{line}\n".encode(errors="backslashreplace")
        if self._size and self._size + len(data) > self._most:
            self._rotate()
        if self._torn:
            data = b"\n" + data
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self.error = error
            return False
        self._size += written
        self._torn = written < len(data)
        return not self._torn

    def _rotate(self) -> None:
        assert self._rotation is not None  # noqa: S101 - else it may have any size
        self._most = math.inf  # a finaliser may print in the middle of it
        try:
            descriptor = self._rotation.rotate(self._path)
        except OSError as error:  # it grows, and is tried again when it has grown by as much
            self.rotation_error = error
            self._most = self._size + self._rotation.max_bytes
            return
        os.close(self._descriptor)
        self._descriptor, self._size, self._torn = descriptor, 0, False
        self._most = self._rotation.max_bytes

    def close(self) -> None:
        """Close it; later lines are lost. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
