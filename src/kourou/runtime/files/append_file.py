"""A file that only grows, line by line, and whose disk may be full."""

from __future__ import annotations

import os
from pathlib import Path

LONGEST_LINE = 1 << 16
"""Longer lines of nodes are cut in pieces, so that one who prints no newline costs no memory."""


class AppendFile:
    """Lines go to the file at once and whole. Those that the disk has no room for are lost, and nothing is raised.

    Nothing is kept back for later either: a buffer would grow while the disk is full, and fail once more when it is
    closed.

    Args:
        errors: what becomes of text that is no UTF-8.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, errors: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._errors = errors
        self._torn = _is_torn(path)  # the last line was written in part, by this process or one before
        self.error: OSError | None = None
        """Why a line was lost, if the system said so."""

    def append(self, line: str) -> bool:
        """Write a line, given without its newline. False when it is lost, or a part of it."""
        if self._descriptor < 0:
            return False
        try:
            data = f"{line}\n".encode(errors=self._errors)
        except UnicodeEncodeError:  # halves of UTF-16's pairs, which stand for no byte
            data = f"{line}\n".encode(errors="backslashreplace")
        if self._torn:
            data = b"\n" + data
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self.error = error
            return False
        self._torn = written < len(data)
        return not self._torn

    def close(self) -> None:
        """Close it; later lines are lost. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        return size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
