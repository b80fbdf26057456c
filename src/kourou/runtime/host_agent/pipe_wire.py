"""Messages between a launcher and its agent on another host, over the two pipes that ssh makes of its connection.

They are pickles: the other end was let in by ssh, as the same user. Nothing listens on either host, so there is nothing
for strangers to reach and no token to keep secret, and what crosses the network is as safe as ssh is.

Whoever sends does not wait for the network: a thread of the wire's own writes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kourou.runtime.files.descriptors import is_readable

PREAMBLE = b"\nkourou-agent-1\n"
"""What an agent says first. Whatever a host's login scripts print comes before it, and is skipped."""

_SIZE = struct.Struct("<Q")
_READ_BYTES = 1 << 20
_FULL_BYTES = 8 << 20  # that wait to be written
_ROOM_BYTES = _FULL_BYTES // 4


class Wire:
    """One end. Any thread may send; one thread receives. Its owner calls :meth:`end` before it closes the descriptors.

    Args:
        read_fd: where messages come from.
        write_fd: where they go.
        silence_s: in the middle of a message, so long a silence is the other end's death.
    """

    def __init__(self, read_fd: int, write_fd: int, silence_s: float) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._silence_s = silence_s
        self._changed = threading.Condition(threading.Lock())
        self._urgent: deque[bytes] = deque()
        self._outbox: deque[bytes | tuple[Any, ...]] = deque()
        self._waiting_bytes = 0
        self._full = False
        self._ended = False
        self._heartbeat = b""
        self._heartbeat_every_s: float | None = None
        self._thread: threading.Thread | None = None
        self.ends: tuple[str, str] = ("", "")
        """The addresses of this end's host and of the other one's, where it crosses hosts."""
        self.run_id = ""
        """See AgentWire of the program's agent."""
        self.on_full: Callable[[bool], None] = lambda _: None
        """Called with True when much waits to be written, and with False when there is room again; must return quickly,
        and not send. Who can hold back what he would send next, does."""

    def send(self, *message: Any) -> None:
        """Send one message after those before it. Once the other end is gone, or this one was ended, it is dropped."""
        self._put(self._outbox, message)

    def send_first(self, *message: Any) -> None:
        """Send one ahead of all that wait, but for others of this kind: a heartbeat, or what others wait for."""
        self._put(self._urgent, message)

    def send_late(self, *message: Any) -> None:
        """Like :meth:`send`, but pickle it when its turn comes: what it refers to takes no memory twice meanwhile."""
        with self._changed:
            if not self._ended:
                self._outbox.append(message)
                self._run()

    def send_bulk(self, *message: Any) -> None:
        """Like :meth:`send`, but wait until there is room: for threads that nobody else needs meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self._full or self._ended)
        self._put(self._outbox, message)

    def keep_alive(self, every_s: float, *message: Any) -> None:
        """From now on send this every so many seconds."""
        with self._changed:
            self._heartbeat, self._heartbeat_every_s = _packed(message), every_s
        self.send_first(*message)

    def end(self, timeout_s: float) -> bool:
        """Let nobody write any more, so that the descriptor can be closed: it may be another file's soon.

        Returns:
            False if the thread was still in a write after ``timeout_s`` seconds.
        """
        with self._changed:
            self._drop()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def greet(self) -> None:
        """Say the preamble."""
        self._write(PREAMBLE)

    def is_readable(self, timeout_s: float) -> bool:
        """Wait for a message, or for the end."""
        return is_readable(self._read_fd, timeout_s)

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

    def _put(self, queue: deque[bytes] | deque[bytes | tuple[Any, ...]], message: tuple[Any, ...]) -> None:
        packed = _packed(message)
        with self._changed:
            if self._ended:
                return
            queue.append(packed)
            self._waiting_bytes += len(packed)
            self._run()
        self._tell_if_full()

    def _run(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._write_all, name="kourou-wire", daemon=True)
            thread.start()
            self._thread = thread  # one that could not be started is nobody's to wait for
        self._changed.notify_all()

    def _tell_if_full(self) -> None:
        with self._changed:
            full = self._waiting_bytes > (_ROOM_BYTES if self._full else _FULL_BYTES)
            if full is self._full:
                return
            self._full = full
            self._changed.notify_all()
            self.on_full(full)  # in here, so that what is told last is what holds

    def _write_all(self) -> None:
        heartbeat_at = time.monotonic()
        with contextlib.suppress(OSError):  # the other end is gone, as whoever receives finds out
            while (packed := self._next(heartbeat_at)) is not None:
                if packed:
                    self._write(packed)
                    with self._changed:
                        self._waiting_bytes -= len(packed)
                    self._tell_if_full()
                else:
                    heartbeat_at = time.monotonic() + (self._heartbeat_every_s or 0.0)
                    self._write(self._heartbeat)
        with self._changed:
            self._drop()
        self._tell_if_full()

    def _next(self, heartbeat_at: float) -> bytes | None:
        """What is to be written next; b"" for a heartbeat, None at the end."""
        with self._changed:
            while not self._ended:
                now = time.monotonic()
                if self._heartbeat_every_s is not None and now >= heartbeat_at:
                    return b""
                if self._urgent or self._outbox:
                    entry = (self._urgent or self._outbox).popleft()
                    if isinstance(entry, bytes):
                        return entry
                    packed = _packed(entry)
                    self._waiting_bytes += len(packed)
                    return packed
                self._changed.wait(None if self._heartbeat_every_s is None else heartbeat_at - now)
        return None

    def _drop(self) -> None:
        self._ended = True
        self._urgent.clear()
        self._outbox.clear()
        self._waiting_bytes = 0
        self._changed.notify_all()

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


def _packed(message: tuple[Any, ...]) -> bytes:
    body = pickle.dumps(message, protocol=5)
    return _SIZE.pack(len(body)) + body
