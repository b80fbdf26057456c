"""The progress line: rewritten in place on a terminal, a new line now and then where output is piped."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO


class ProgressLine:
    """One line that says how things stand.

    Args:
        stream: where to.
        piped_interval_s: seconds between lines where the stream is no terminal.
    """

    def __init__(self, stream: TextIO = sys.stdout, piped_interval_s: float = 2.0) -> None:
        self._stream = stream
        self._in_place = stream.isatty()
        self._interval_s = piped_interval_s
        self._last_text = ""
        self._last_shown = float("-inf")

    def show(self, text: str) -> None:
        """Say how things stand now."""
        self._last_text = text
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r{text[:width]}\x1b[K")
        elif time.monotonic() - self._last_shown >= self._interval_s:
            self._write(f"{text}\n")

    def close(self) -> None:
        """Leave the latest text standing, and the cursor on a new line."""
        if self._last_text:
            self._write("\n" if self._in_place else f"{self._last_text}\n")

    def _write(self, text: str) -> None:
        self._last_shown = time.monotonic()
        self._stream.write(text)
        self._stream.flush()
