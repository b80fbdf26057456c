"""Messages between a launcher and its agent on another host, over the two pipes that ssh makes of its connection.

They are pickles: the other end was let in by ssh, as the same user. Nothing listens on either host, so there is nothing
for strangers to reach and no token to keep secret, and what crosses the network is as safe as ssh is.
"""

from __future__ import annotations

import os
import pickle
import select
import struct
import threading
from typing import Any

__all__ = ["PREAMBLE", "Wire"]

PREAMBLE = b"\nkourou-agent-1\n"
"""What an agent says first. Whatever a host's login scripts print comes before it, and is skipped."""

_SIZE = struct.Struct("<Q")
_READ_BYTES = 1 << 20


class Wire:
    """One end. Any thread may send; one thread receives.

    Args:
        read_fd: where messages come from.
        write_fd: where they go.
        silence_s: in the middle of a message, so long a silence is the other end's death.
    """

    def __init__(self, read_fd: int, write_fd: int, silence_s: float) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._silence_s = silence_s
        self._lock = threading.Lock()
        self._ended = False

    def send(self, *message: Any) -> None:
        """Send one message.

        Raises:
            OSError: the other end is gone.
        """
        body = pickle.dumps(message, protocol=5)
        with self._lock:
            if self._ended:
                raise BrokenPipeError("this end was closed")
            self._write(_SIZE.pack(len(body)))
            self._write(body)

    def end(self, timeout_s: float) -> bool:
        """Let nobody write any more, so that the descriptor can be closed: it may be another file's soon.

        Returns:
            False if somebody was still writing after ``timeout_s`` seconds.
        """
        if not self._lock.acquire(timeout=timeout_s):
            return False
        self._ended = True
        self._lock.release()
        return True

    def greet(self) -> None:
        """Say the preamble."""
        self._write(PREAMBLE)

    def is_readable(self, timeout_s: float) -> bool:
        """Wait for a message, or for the end."""
        return bool(select.select([self._read_fd], [], [], timeout_s)[0])

    def skip_preamble(self) -> bool:
        """Read to the end of the preamble; False when the other end closed before."""
        seen = b""
        while not seen.endswith(PREAMBLE):
            byte = os.read(self._read_fd, 1)
            if not byte:
                return False
            seen = (seen + byte)[-len(PREAMBLE) :]
        return True

    def receive(self) -> tuple[Any, ...] | None:
        """The next message, whole; None when the other end closed.

        Raises:
            TimeoutError: it fell silent in the middle of it.
        """
        head = self._read(_SIZE.size)
        if head is None:
            return None
        body = self._read(_SIZE.unpack(head)[0])
        if body is None:
            return None
        message: tuple[Any, ...] = pickle.loads(body)
        return message

    def _read(self, size: int) -> bytes | None:
        parts = []
        while size > 0:
            if not self.is_readable(self._silence_s):
                raise TimeoutError(f"nothing came for {self._silence_s:g} s")
            part = os.read(self._read_fd, min(size, _READ_BYTES))
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._write_fd, view) :]
