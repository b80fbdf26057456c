"""What a stream prints, as lines; a progress bar, which ends none for hours, shows now and then how it stands."""

from __future__ import annotations

import time
from collections.abc import Callable

from kourou.runtime.files.append_file import LONGEST_LINE

__all__ = ["LineSplitter"]

_FIRST_DRAWING_S = 1.0  # after which a bar is told for the first time, and then after twice the time each time
_SLOWEST_DRAWINGS_S = 10.0  # a bar that takes hours must not fill the log


class LineSplitter:
    """Divides what comes in pieces. A carriage return draws a line anew: the last drawing is the line.

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

    def take(self) -> bytes:
        """What no newline has ended so far, which is left to the caller."""
        rest, self._rest = self._rest, b""
        return rest

    def _end_line(self, line: bytes) -> None:
        text = _last_drawing(line).decode(errors="replace")
        if text != self._told:
            self._tell(text, True)
        self._told, self._due, self._pause_s = None, 0.0, _FIRST_DRAWING_S

    def _draw(self) -> None:
        now, drawing = self._clock(), _last_drawing(self._rest)
        # Of earlier drawings nothing is kept but that there were some.
        self._rest = b"\r" + drawing + (b"\r" if self._rest.endswith(b"\r") and drawing else b"")
        self._due = self._due or now + self._pause_s
        text = drawing.decode(errors="replace")
        if now < self._due or text in {"", self._told}:
            return
        self._tell(text, False)
        self._pause_s = min(2 * self._pause_s, _SLOWEST_DRAWINGS_S)
        self._told, self._due = text, now + self._pause_s


def _last_drawing(line: bytes) -> bytes:
    return line.rstrip(b"\r").rsplit(b"\r", 1)[-1]
