"""A file that grows: its end, and what is added to it."""

from __future__ import annotations

import io
import os
from pathlib import Path

_LINES_BYTES = 1 << 22  # of whole lines at once


def tail(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """The last bytes of a file; none where there is no such file."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - most_bytes))
            return file.read()
    except OSError:
        return b""


class GrowingFile:
    """What is added to a file, once each; also before there is one.

    Args:
        path: the file.
        offset: where to begin, in bytes.
    """

    def __init__(self, path: str | os.PathLike[str], offset: int = 0) -> None:
        self._path = Path(path)
        self._offset = offset

    def read(self) -> bytes:
        """All that was added."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return b""
        self._offset += len(data)
        return data

    def read_lines(self) -> bytes:
        """Whole lines that were added; a part of them, where there are many."""
        size = _LINES_BYTES
        while True:
            try:
                with self._path.open("rb") as file:
                    data = os.pread(file.fileno(), size, self._offset)
            except OSError:
                return b""
            lines = data[: data.rfind(b"\n") + 1]
            if lines or len(data) < size:
                self._offset += len(lines)
                return lines
            size *= 2  # a line longer than that
