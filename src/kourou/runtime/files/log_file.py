"""Reading a run's merged log: its end first, then whatever is added."""

from __future__ import annotations

import dataclasses
import datetime
import io
import re
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from kourou.runtime.files.growing_file import LINES_MISSING, GrowingFile, tail
from kourou.runtime.files.rotation import backup, generations, open_if_same

NOBODY = "kourou"
"""In a node's place, of a line that says what the log does not; nodes' names have a slash."""

_BLOCK_BYTES = 1 << 16
_LAST_LINE_BYTES = 1 << 14


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogLine:
    """What a node printed, in one line."""

    time: str
    """ISO 8601 with milliseconds and offset."""
    node: str
    text: str


class LogFile:
    """The merged log of a run. Read it again to get what was added since."""

    def __init__(self, path: Path, keep: Callable[[LogLine], bool] = lambda _: True) -> None:
        self._path = path
        self._keep = keep
        self._added = GrowingFile(path)

    def skip_to_last(self, count: int) -> None:
        """Let :meth:`read` begin with the last ``count`` lines that are wanted."""
        left = count
        for inode, path in generations(self._path).items():
            file = open_if_same(path, inode)
            if file is None:  # it was rotated meanwhile
                self.skip_to_last(count)
                return
            with file:
                offset, left = self._offset_of_last(file, left)
            self._added.begin(inode, offset)
            if not left:
                return

    def read(self) -> Iterator[LogLine]:
        """The lines that were added since the last reading, unfinished ones left out; to be taken to the last one.

        Where some may be missing, a line of :data:`NOBODY` says so, whichever lines are wanted.
        """
        while lines := self._added.read_lines():
            if self._added.take_gap():
                now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
                yield LogLine(time=now, node=NOBODY, text=LINES_MISSING)
            for raw in lines.split(b"\n"):
                line = _parse(raw)
                if line is not None and self._keep(line):
                    yield line

    def _offset_of_last(self, file: IO[bytes], count: int) -> tuple[int, int]:
        """Where the last ``count`` wanted lines begin, and how many of them there are not.

        The file is read backwards, block by block.
        """
        position = file.seek(0, io.SEEK_END)
        rest = b""
        while position > 0 and count > 0:
            size = min(_BLOCK_BYTES, position)
            position -= size
            file.seek(position)
            block = file.read(size) + rest
            first, *lines = block.split(b"\n")
            # What stands before the first newline may have begun in the block before.
            begin = position + len(block)
            for raw in reversed(lines):
                begin -= len(raw)
                line = _parse(raw)
                if line is not None and self._keep(line):
                    count -= 1
                    if count == 0:
                        return begin, 0
                begin -= 1
            rest = first
        return 0 if count > 0 else file.seek(0, io.SEEK_END), count


def last_line(path: Path, passing_over: re.Pattern[str] | None = None) -> str:
    """The last line of a node's log that is not empty, and does not begin with that pattern; "" without one."""
    end = tail(path, _LAST_LINE_BYTES) or tail(backup(path, 1), _LAST_LINE_BYTES)  # it was rotated just now
    lines = end.split(b"\n")
    texts = (line.decode(errors="replace") for line in reversed(lines))
    told = (text for text in texts if passing_over is None or not passing_over.match(text))
    return next((text.strip() for text in told if text.strip()), "")


def _parse(raw: bytes) -> LogLine | None:
    parts = raw.split(b"\t", 2)
    if len(parts) != 3:  # noqa: PLR2004 - time, node, text
        return None
    time, node, text = (part.decode(errors="replace") for part in parts)
    return LogLine(time=time, node=urllib.parse.unquote(node), text=text)
