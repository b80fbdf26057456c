"""What two ends say to each other, over one connection or one after another: everything once, and in order. No socket.

Every message has a number, and is kept until the other end has said that it arrived. Where a connection breaks, the
next one begins with what each end has heard, and goes on from there.
"""

from __future__ import annotations

import pickle
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

_HEAD = struct.Struct("<QQQ")  # the message's number, or 0 for none; the last one that was heard; bytes that follow
_FULL_BYTES = 8 << 20  # that wait: to be sent, or to be heard of
_ROOM_BYTES = _FULL_BYTES // 4
_WINDOW_BYTES = 4 << 20  # are on their way at most, so that what comes first is not behind more than that
_SAY_EVERY_BYTES = 1 << 18  # of what was heard, before that is said without being asked

UNREADABLE = "unreadable"
"""Kind of what stands for a message that cannot be unpickled: here is another version of a module, or none."""

_Message = tuple[Any, ...]


class BrokenSession(ConnectionError):
    """The other end does not go on where this one is."""


class Sender(Protocol):
    """What leads to the other end, from any thread; nothing here waits for the network."""

    def send(self, *message: Any) -> None:
        """Tell the other end something, after all that was told before. Once it is gone, nothing is told."""
        self.put(message)

    def send_first(self, *message: Any) -> None:
        """Tell it something ahead of what waits to be sent, but for others of this kind: what others wait for."""
        self.put(message, first=True)

    def send_late(self, *message: Any) -> None:
        """As :meth:`send`, but pickled when its turn comes, so that what it refers to takes no memory twice."""
        self.put(message, late=True)

    def put(self, message: _Message, *, first: bool = False, late: bool = False) -> None:
        """Any of these: see :meth:`Session.put`."""


class Session:
    """One end. Any thread may call :meth:`put`; the others are for whoever owns the connection."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._urgent: deque[bytes] = deque()
        self._outbox: deque[bytes | _Message] = deque()
        self._kept: deque[tuple[int, bytes]] = deque()  # sent, and not heard of
        self._resend: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = self._queued_bytes = 0
        self._number = 0
        self._heard_to_say = 0  # bytes
        self._full = False
        self._lets_go = self._dropped = False
        self._buffer = bytearray()
        self.heard = 0
        """The number of the last message that arrived."""
        self.on_full: Callable[[bool], None] = lambda _: None
        """Called with True when much waits, and with False when there is room again; must return quickly, and put
        nothing. Who can hold back what he would say next, does."""

    def put(self, message: _Message, *, first: bool = False, late: bool = False) -> None:
        """Queue a message.

        Args:
            message: pickled now.
            first: ahead of all that wait, but for others of this kind.
            late: pickled when its turn comes, so that what it refers to takes no memory twice while it waits.
        """
        packed: bytes | _Message = message if late else pickle.dumps(message, protocol=5)
        with self._changed:
            if self._dropped:
                return
            if first:
                assert isinstance(packed, bytes)  # noqa: S101 - what is late is never first
                self._urgent.append(packed)
            else:
                self._outbox.append(packed)
            self._queued_bytes += len(packed) if isinstance(packed, bytes) else 0
        self._tell_if_full()

    def wait_for_room(self) -> None:
        """Wait while much waits."""
        with self._changed:
            self._changed.wait_for(lambda: not self._full or self._lets_go)

    def let_go(self) -> None:
        """Nobody waits for room any more."""
        with self._changed:
            self._lets_go = True
            self._changed.notify_all()

    def drop(self) -> None:
        """The other end is gone for good: what waits for it is let go, nothing is kept from now on, nobody waits."""
        with self._changed:
            self._dropped = True
            self.on_full = lambda _: None
            for queue in (self._urgent, self._outbox, self._kept, self._resend):
                queue.clear()
            self._kept_bytes = self._queued_bytes = 0
        self.let_go()

    def take(self) -> bytes | None:
        """What is to be written next; None: nothing now."""
        with self._changed:
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
        with self._changed:
            return self._head(0, 0)

    def feed(self, data: bytes) -> Iterator[_Message]:
        """Take what came, and go through the messages that are whole now; each counts as heard when it is its turn.

        One that cannot be unpickled is :data:`UNREADABLE`, and the error: it would be no better another time.

        Raises:
            BrokenSession: a message is missing.
        """
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            number, heard, size = _HEAD.unpack_from(self._buffer)
            end = _HEAD.size + size
            if len(self._buffer) < end:
                break
            self._forget(heard)
            is_new = number > self.heard
            if is_new and number != self.heard + 1:
                raise BrokenSession(f"message {number} came after {self.heard}")
            with memoryview(self._buffer) as whole, whole[_HEAD.size : end] as packed:
                message = _unpickled(packed) if is_new else ()
            del self._buffer[:end]
            with self._changed:
                self._heard_to_say += end
                self.heard = max(self.heard, number)
            if is_new:
                yield message

    def resume(self, heard: int) -> None:
        """A new connection: the other end has heard so much, and is told the rest again.

        Raises:
            BrokenSession: it has heard of another session.
        """
        with self._changed:
            known = self._kept[0][0] - 1 if self._kept else self._number
            if not known <= heard <= self._number:
                raise BrokenSession(f"the other end has heard {heard} messages, and is to go on after {known}")
        self._buffer.clear()
        self._forget(heard)
        with self._changed:
            self._resend = deque(self._kept)

    def _head(self, number: int, size: int) -> bytes:
        self._heard_to_say = 0
        return _HEAD.pack(number, self.heard, size)

    def _forget(self, heard: int) -> None:
        with self._changed:
            while self._kept and self._kept[0][0] <= heard:
                self._kept_bytes -= len(self._kept.popleft()[1])
        self._tell_if_full()

    def _tell_if_full(self) -> None:
        with self._changed:
            waiting = self._queued_bytes + self._kept_bytes
            full = waiting > (_ROOM_BYTES if self._full else _FULL_BYTES)
            if full is self._full:
                return
            self._full = full
            self._changed.notify_all()
            self.on_full(full)  # in here, so that what is told last is what holds


def _unpickled(packed: memoryview) -> _Message:
    try:
        message: _Message = pickle.loads(packed)
    except Exception as error:  # noqa: BLE001 - whatever it is, who uses the message is told
        return UNREADABLE, error
    return message
