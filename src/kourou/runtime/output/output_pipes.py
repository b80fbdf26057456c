"""The pipes that a process prints into, as lines."""

from __future__ import annotations

import functools
import os
import selectors
from collections import deque
from collections.abc import Callable, Sequence

from kourou.runtime.model.records import MOST_LINE_BYTES, shortened
from kourou.runtime.output.line_splitter import LineSplitter

_LAST_LINES = 50  # kept of each process's output, for the report of a failure
_READ_BYTES = 1 << 16


class OutputPipes:
    """One pipe for each stream of a process. Its owner reads what is readable, and closes what is left.

    Raises:
        OSError: there are no more descriptors.
    """

    def __init__(self, streams: Sequence[str], tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._streams: dict[int, str] = {}
        self._lines: dict[int, LineSplitter] = {}
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        """The end of what it printed."""
        write_ends: list[int] = []
        try:
            for stream in streams:
                read_end, write_end = os.pipe()
                write_ends.append(write_end)
                os.set_blocking(read_end, False)
                self._streams[read_end] = stream
                self._lines[read_end] = LineSplitter(functools.partial(self._tell_line, stream))
        except OSError:
            for fd in (*write_ends, *self._streams):
                os.close(fd)
            raise
        self.write_ends = tuple(write_ends)
        """What the process gets, in the order of the streams; whoever passes them on closes them."""

    @property
    def read_ends(self) -> tuple[int, ...]:
        """Those that are open."""
        return tuple(self._streams)

    def read(self, fd: int) -> bool:
        """Tell what has come; False at its end, which is for the owner to close."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return True
        self._lines[fd].feed(data)
        return bool(data)

    def read_rest(self, fd: int) -> None:
        """Tell what it still holds, all writers being dead."""
        while _has_data(fd) and self.read(fd):
            pass

    def close(self, fd: int, *, tell: bool = True) -> None:
        """Close one; what no newline ended is a line as well."""
        try:
            if tell:
                self._lines[fd].finish()
        finally:
            del self._streams[fd], self._lines[fd]
            os.close(fd)

    def _tell_line(self, stream: str, text: str, is_line: bool) -> None:  # noqa: FBT001 - a LineSplitter calls it
        if is_line:
            self.last_lines.append(shortened(text, MOST_LINE_BYTES))
        self._tell(text, stream)


def _has_data(fd: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(0))
