"""Frames on their way into the body of an HTTP/2 call: small ones share packets, and bulk is not copied."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence

from kourou.courier.lanes.http2.framing import Http2
from kourou.courier.lanes.http2.packets import PACKET_BYTES, message_head, plain_message
from kourou.courier.lanes.http2.tcp import TcpSocket
from kourou.courier.wire.frames import Buffer


class PacketWriter:
    """For one thread at a time, except that any thread may append to ``queue``.

    Attributes:
        queue: small frames, to share a packet.
        sent: bytes so far.
        torn: a thread was interrupted while it changed what is to be sent; the connection is of no use any more, since
            the other end would take what follows for the rest of a frame, or read what has changed meanwhile.
    """

    def __init__(self, sock: TcpSocket, http2: Http2) -> None:
        self.queue: deque[Buffer] = deque()
        self.sent = 0
        self.torn = False
        self._socket = sock
        self._http2 = http2
        self._body: deque[Buffer] = deque()  # packets
        self._framed: list[Buffer] = []  # HTTP/2's frames of them
        self._last = b""  # what ends the call, when all else is sent

    @property
    def pending(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._framed or self._body or self.queue or self._http2.replies or self._last)

    @property
    def has_body(self) -> bool:
        """Whether there is any bulk to send."""
        return bool(self._body)

    @property
    def needs_window(self) -> bool:
        """Whether the other end has to grant a window before more can be sent."""
        return bool(self._body) and not self._framed and self._http2.window <= 0

    @property
    def size(self) -> int:
        """Bytes to send. Slow."""
        return sum(map(len, [*self._framed, *self._body, *list(self.queue)]))

    def put(self, parts: Sequence[Buffer]) -> None:
        """Take one frame, in parts, behind what came before. They must not change until they are sent, or kept."""
        with self._whole():
            while self.queue:
                self._body.extend(_messages((self._gather(),)))
            self._body.extend(_messages(parts))

    def put_plain(self, contents: bytes) -> None:
        """Take a message that is no packet; an empty one is an empty packet."""
        self._body.append(plain_message(contents))

    def copy_unsent(self) -> None:
        """Copy what was put and is not sent: its memory may change from now on."""
        with self._whole():
            self._body = deque(map(bytes, self._body))
            self._framed = [bytes(buffer) for buffer in self._framed]

    def end(self, last: bytes) -> None:
        """Send what is framed, and then this; discard all else."""
        self.queue.clear()
        self._body.clear()
        self._last = last

    def discard(self) -> None:
        """The connection is gone: there is nothing to send any more."""
        self.end(b"")
        self._framed = []
        self._http2.replies.clear()

    def finish(self, last: bytes) -> None:
        """When all that is queued has been sent, send this."""
        self._last = last

    def send_some(self) -> bool:
        """Send one system call's worth. Whether the connection takes no more at present.

        Raises:
            OSError: it is gone.
        """
        self.torn = True
        if not self._body and self.queue:
            self._body.extend(_messages((self._gather(),)))
        if not self._framed:
            self._framed = self._http2.frames(self._body)
            if not self._framed and self._last and not self._body:
                self._framed = [self._last]
                self._last = b""
        is_full = False
        try:
            if self._framed:
                self._drop(self._socket.send(self._framed))
        except BlockingIOError:
            is_full = True
        self.torn = False
        return is_full

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """What is done meanwhile is done as a whole, or the connection is torn."""
        was_torn, self.torn = self.torn, True
        yield
        self.torn = was_torn

    def _gather(self) -> Buffer:
        queue = self.queue
        if len(queue) == 1:
            return queue.popleft()
        frames, size = [], 0
        while queue and size < PACKET_BYTES:
            frames.append(queue.popleft())
            size += len(frames[-1])
        return b"".join(frames)

    def _drop(self, sent: int) -> None:
        """So much of what is framed was sent."""
        self.sent += sent
        framed = self._framed
        done = 0
        while done < len(framed) and sent >= len(framed[done]):
            sent -= len(framed[done])
            done += 1
        if sent:
            framed[done] = memoryview(framed[done])[sent:]
        del framed[:done]


def _messages(parts: Sequence[Buffer]) -> Iterator[Buffer]:
    """The parts as packets, which none of them is copied for."""
    packet: list[Buffer] = []
    size = 0
    for part in parts:
        view = memoryview(part)
        while view:
            piece = view[: PACKET_BYTES - size]
            packet.append(piece)
            size += len(piece)
            view = view[len(piece) :]
            if size == PACKET_BYTES:
                yield from (message_head(size), *packet)
                packet, size = [], 0
    if size:
        yield from (message_head(size), *packet)
