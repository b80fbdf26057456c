"""Writing to a stream that may take nothing for a while, from threads that must not wait for it.

A pipe that nobody reads (``| less``), a terminal after Ctrl-S, a collector that hangs: whoever writes there waits. The
threads that start, signal and bury processes write to one of these instead.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from kourou import threads

_log = logging.getLogger("kourou")

_MOST_CHARACTERS = 1 << 23  # that wait
_AT_ONCE = 1 << 16  # characters that the thread takes
_PIECE_BYTES = select.PIPE_BUF  # a pipe that takes anything takes so much without waiting
_LOOK_MS = 100
_STALLED_S = 2.0  # at the end: what has taken nothing for so long will not


class NonBlockingStream:
    """A text stream whose ``write`` returns at once; a thread of its own passes the text on.

    What a stream does not take for long is dropped, and that is said as soon as it takes something. Its owner closes
    it.

    Args:
        kept_in: the file that has all that is written, for what is said of what was dropped.
    """

    def __init__(self, stream: Any, kept_in: Path | None = None) -> None:
        self._stream = stream
        self._kept_in = kept_in
        self._backlog: deque[str] = deque()
        self._waiting = 0  # characters in the backlog
        self._dropped = 0  # lines
        self._closing = False
        self._given_up = False
        self._progress_at = 0.0
        self._changed = threading.Condition()  # of an RLock: a finaliser may print in the middle of a print
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._pass_on, name="kourou-output", daemon=True)
        threads.start(self._thread)

    def write(self, text: str) -> int:
        """Let the text be written, or drop it where too much waits already."""
        if os.getpid() != self._process:  # a fork has no thread
            self._put(text)
            return len(text)
        with self._changed:
            if self._waiting + len(text) > _MOST_CHARACTERS or self._given_up:
                self._dropped += text.count("\n")
            else:
                self._backlog.append(text)
                self._waiting += len(text)
                self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back that could be written."""

    def isatty(self) -> bool:
        """Whether somebody looks at it."""
        return bool(self._stream.isatty())

    def close(self) -> None:
        """Let what waits be written, unless the stream takes nothing for some seconds. Idempotent."""
        with self._changed:
            self._closing = True
            self._progress_at = time.monotonic()
            self._changed.notify()
        while self._thread.is_alive() and time.monotonic() < self._progress_at + _STALLED_S:
            self._thread.join(_LOOK_MS / 1000)
        if self._thread.is_alive():
            with self._changed:
                self._given_up = True
                self._dropped += sum(text.count("\n") for text in self._backlog)
                self._backlog.clear()
            if _takes_something(self._stream) is not None:  # else it waits in a write, and is left there
                self._thread.join()
        if self._dropped:
            warn("%s", self._words_on_dropped())

    def _pass_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._backlog or self._closing)
                if not self._backlog:
                    return
                text = self._backlog.popleft()
                while self._backlog and len(text) < _AT_ONCE:
                    text += self._backlog.popleft()
            written = self._put(text)
            with self._changed:
                self._waiting -= len(text)
                if self._dropped and written and not self._given_up:
                    self._backlog.append(f"kourou: {self._words_on_dropped()}\n")
                    self._dropped = 0

    def _words_on_dropped(self) -> str:
        where = f"; they are in {self._kept_in}" if self._kept_in else ""
        return f"{self._dropped} lines are not shown, because this output took nothing for a while{where}"

    def _put(self, text: str) -> bool:
        """Write it; False if that was given up."""
        with contextlib.suppress(OSError, ValueError):  # it is closed, or nobody will ever read it
            if _descriptor_of(self._stream) is None:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:
                    self._stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
                self._stream.flush()
                self._progress_at = time.monotonic()
                return True
            return self._put_bytes(_encoded(text, self._stream))
        return True

    def _put_bytes(self, data: bytes) -> bool:
        """Write whole lines to the descriptor, past the stream, whose lock must not be held while one waits."""
        while data:
            if not _takes_something(self._stream, _LOOK_MS):
                if self._given_up:
                    return False
                continue
            self._stream.flush()  # what others wrote before
            end = data.rfind(b"\n", 0, _PIECE_BYTES) + 1 or _PIECE_BYTES
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._stream.fileno(), data[:end]) :]
                self._progress_at = time.monotonic()
        return True


def warn(message: str, *args: object) -> None:
    """Log a warning, unless it would go to a standard error that takes nothing, where one would wait for ever."""
    if _takes_something(sys.stderr, _LOOK_MS) is not False:
        _log.warning(message, *args)


def say(text: str) -> None:
    """Print a line on standard error, under the same condition."""
    if _takes_something(sys.stderr, _LOOK_MS) is not False:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - its purpose


def _encoded(text: str, stream: io.TextIOWrapper) -> bytes:
    try:
        return text.encode(stream.encoding, stream.errors or "strict")
    except UnicodeEncodeError:
        return text.encode("ascii", "backslashreplace")


def _descriptor_of(stream: Any) -> int | None:
    """What a plain stream of the system writes to; None of others, which may name one and send the text elsewhere."""
    if type(stream) is not io.TextIOWrapper:
        return None
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return stream.fileno() if isinstance(raw, io.FileIO) else None


def _takes_something(stream: Any, within_ms: int = 0) -> bool | None:
    """Whether one can write there without waiting; None: that cannot be known."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = _descriptor_of(stream)
        if descriptor is not None:
            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            return bool(poller.poll(within_ms))
    return None
