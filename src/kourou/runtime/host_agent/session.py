"""What two ends say to each other over one connection after another: everything once, and in order. Pure: no socket.

Every message has a number, and is kept until the other end has said that it arrived. Where a connection breaks, the
next one begins with what each end has heard, and goes on from there.
"""

from __future__ import annotations

import pickle
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_HEAD = struct.Struct("<QQQ")  # the message's number, or 0 for none; the last one that was heard; bytes that follow
_FULL_BYTES = 8 << 20  # that wait: to be sent, or to be heard of
_ROOM_BYTES = _FULL_BYTES // 4
_WINDOW_BYTES = 4 << 20  # are on their way at most, so that what comes first is not behind more than that
_SAY_EVERY_BYTES = 1 << 18  # of what was heard, before that is said without being asked

_Message = tuple[Any, ...]


class BrokenSession(ConnectionError):
    """The other end does not go on where this one is."""


class Session:
    """One end. Any thread may call :meth:`put`; the others are for whoever owns the connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urgent: deque[bytes] = deque()
        self._outbox: deque[bytes | _Message] = deque()
        self._kept: deque[tuple[int, bytes]] = deque()  # sent, and not heard of
        self._resend: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = self._queued_bytes = 0
        self._number = 0
        self._heard_to_say = 0  # bytes
        self._full = False
        self._buffer = bytearray()
        self.heard = 0
        """The number of the last message that arrived."""
        self.on_full: Callable[[bool], None] = lambda _: None
        """Called with True when much waits, and with False when there is room again; must return quickly."""

    def put(self, message: _Message, *, first: bool = False, late: bool = False) -> None:
        """Queue a message.

        Args:
            message: pickled now.
            first: ahead of all that wait, but for others of this kind.
            late: pickled when its turn comes, so that what it refers to takes no memory twice while it waits.
        """
        packed: bytes | _Message = message if late else pickle.dumps(message, protocol=5)
        with self._lock:
            if first:
                assert isinstance(packed, bytes)  # noqa: S101 - what is late is never first
                self._urgent.append(packed)
            else:
                self._outbox.append(packed)
            self._queued_bytes += len(packed) if isinstance(packed, bytes) else 0
        self._tell_if_full()

    def take(self) -> bytes | None:
        """What is to be written next; None: nothing now."""
        with self._lock:
            if self._resend:
                number, packed = self._resend.popleft()
            elif self._kept_bytes < _WINDOW_BYTES and (self._urgent or self._outbox):
                entry = (self._urgent or self._outbox).popleft()
                if isinstance(entry, bytes):
                    packed = entry
                    self._queued_bytes -= len(packed)
                else:
                    packed = pickle.dumps(entry, protocol=5)
                self._number += 1
                number = self._number
                self._kept.append((number, packed))
                self._kept_bytes += len(packed)
            elif self._heard_to_say >= _SAY_EVERY_BYTES:
                return self._head(0, 0)
            else:
                return None
            return self._head(number, len(packed)) + packed

    def sign_of_life(self) -> bytes:
        """What is written when nothing else has been for a while. It says what was heard, too."""
        with self._lock:
            return self._head(0, 0)

    def feed(self, data: bytes) -> list[_Message]:
        """Take what came; the messages that are whole now.

        Raises:
            BrokenSession: a message is missing.
        """
        self._buffer += data
        messages: list[_Message] = []
        while len(self._buffer) >= _HEAD.size:
            number, heard, size = _HEAD.unpack_from(self._buffer)
            end = _HEAD.size + size
            if len(self._buffer) < end:
                break
            self._forget(heard)
            if number > self.heard:
                if number != self.heard + 1:
                    raise BrokenSession(f"message {number} came after {self.heard}")
                messages.append(pickle.loads(memoryview(self._buffer)[_HEAD.size : end].tobytes()))
                self.heard = number
            with self._lock:
                self._heard_to_say += end
            del self._buffer[:end]
        return messages

    def resume(self, heard: int) -> None:
        """A new connection: the other end has heard so much, and is told the rest again.

        Raises:
            BrokenSession: it has heard of another session.
        """
        self._buffer.clear()
        self._forget(heard)
        with self._lock:
            expected = self._kept[0][0] - 1 if self._kept else self._number
            if heard != expected:
                raise BrokenSession(f"the other end has heard {heard} messages, and is to go on after {expected}")
            self._resend = deque(self._kept)

    def _head(self, number: int, size: int) -> bytes:
        self._heard_to_say = 0
        return _HEAD.pack(number, self.heard, size)

    def _forget(self, heard: int) -> None:
        with self._lock:
            while self._kept and self._kept[0][0] <= heard:
                self._kept_bytes -= len(self._kept.popleft()[1])
        self._tell_if_full()

    def _tell_if_full(self) -> None:
        with self._lock:
            waiting = self._queued_bytes + self._kept_bytes
            full = waiting > (_ROOM_BYTES if self._full else _FULL_BYTES)
            if full is self._full:
                return
            self._full = full
            self.on_full(full)  # in here, so that what is told last is what holds
