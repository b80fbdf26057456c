"""What a stream prints, as lines; a progress bar, which ends none for hours, shows now and then how it stands."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from kourou.runtime.files.append_file import LONGEST_LINE

_FIRST_DRAWING_S = 1.0  # after which a bar is told for the first time, and then after twice the time each time
_SLOWEST_DRAWINGS_S = 10.0  # a bar that takes hours must not fill the log
_UP = re.compile(rb"\x1b\[(\d*)A")
_CONTROLS = re.compile(rb"\x1b\[[0-9;?]*[A-HJKSTfhlsu]")  # moves of the cursor and the like; colours stay


class LineSplitter:
    """Divides what comes in pieces. A carriage return draws a line anew: the last drawing is the line.

    Several bars below each other are drawn anew once the cursor has gone up: these are told together, as one bar is.

    Args:
        tell: called with each line, without its end, and with whether it is one: False for a bar that goes on.
        clock: seconds from some moment on.
    """

    def __init__(self, tell: Callable[[str, bool], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._rest = b""
        self._told: str | None = None  # the last drawing
        self._due = 0.0  # when the next one is told; 0: the line is no bar so far
        self._pause_s = _FIRST_DRAWING_S
        self._block: list[bytes] = []  # the last drawing of several bars
        self._left = 0  # how many of its lines are to come that end in a newline

    def feed(self, data: bytes) -> None:
        """Tell the lines that this ends."""
        *lines, rest = (self._rest + data).split(b"\n")
        while len(rest) > LONGEST_LINE:
            lines.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        self._rest = rest  # before anything is told: a signal handler may print meanwhile
        for line in lines:
            self._end_line(line)
        if b"\r" in self._rest:
            self._draw()

    def finish(self) -> None:
        """Tell what no newline ended."""
        rest = self.take()
        if rest:
            self._end_line(rest)
        self._end_block()

    def take(self) -> bytes:
        """What no newline has ended so far, which is left to the caller."""
        rest, self._rest = self._rest, b""
        return rest

    def _end_line(self, line: bytes) -> None:
        up = _UP.search(line) if b"\x1b" in line else None
        if up is not None:
            self._begin_block(line[: up.start()].rpartition(b"\r")[0], line)
            return
        if self._left:
            self._left -= 1
            self._block.append(line)
            return
        self._end_block()
        text = _shown(line)
        if text != self._told and (text or not line):  # else it had nothing but moves of the cursor
            self._tell(text, True)
        self._told, self._due, self._pause_s = None, 0.0, _FIRST_DRAWING_S

    def _begin_block(self, end_of_last: bytes, line: bytes) -> None:
        """The first of several lines that are drawn over others."""
        if end_of_last:
            self._block.append(end_of_last)
        if self._is_due(self._clock()):
            for one in self._block:
                self._tell(_shown(one), False)
        self._left = sum(int(count or 1) for count in _UP.findall(line)) - 1
        self._block = [line]

    def _end_block(self) -> None:
        for line in self._block:
            self._tell(_shown(line), True)
        self._block, self._left = [], 0

    def _draw(self) -> None:
        now, drawing = self._clock(), _last_drawing(self._rest)
        # Of earlier drawings nothing is kept but that there were some.
        self._rest = b"\r" + drawing + (b"\r" if self._rest.endswith(b"\r") and drawing else b"")
        text = _shown(drawing)
        if text not in {"", self._told} and self._is_due(now):
            self._tell(text, False)
            self._told = text

    def _is_due(self, now: float) -> bool:
        """Whether a drawing is to be told; the next one is then due later."""
        self._due = self._due or now + self._pause_s
        if now < self._due:
            return False
        self._pause_s = min(2 * self._pause_s, _SLOWEST_DRAWINGS_S)
        self._due = now + self._pause_s
        return True


def _shown(line: bytes) -> str:
    drawing = _last_drawing(line)
    return (_CONTROLS.sub(b"", drawing) if b"\x1b" in drawing else drawing).decode(errors="replace")


def _last_drawing(line: bytes) -> bytes:
    return line.rstrip(b"\r").rsplit(b"\r", 1)[-1]
