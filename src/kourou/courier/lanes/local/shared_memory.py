"""The shared memory of one local connection, both directions, and the frames that manage it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Callable

from kourou.courier.lanes.local.arena import Arena, Segment, Window, default_limit
from kourou.courier.lanes.local.socket_file import receive_descriptor, send_descriptor
from kourou.courier.wire.frames import Buffer, Frame, Kind, pack
from kourou.errors import ProtocolError

_GATHER_BYTES = 256 << 10  # written at once, when several frames are queued
_BLOCK_SIZE = struct.Struct("<Q")


class Memory:
    """What one end of a connection shares with the other.

    Args:
        side: the socket for descriptors.
        outgoing: frames that are to be sent.
        returned: called when there are blocks to return (``returns``); takes no locks.
    """

    def __init__(self, side: socket.socket, outgoing: deque[Buffer], returned: Callable[[], None]) -> None:
        self._side = side
        self._outgoing = outgoing
        limit = default_limit()
        self.arena = Arena(self._announce, self._retire, limit)
        self._window = Window(returned, limit)
        self.resolve = self._window.resolve
        self.trim = self.arena.trim
        self.returns = self._window.returns  # the blocks that nobody uses any more

    def gather(self) -> Buffer:
        """What is to be written next: the return of what is not used any more, and then what is queued."""
        queue = self._outgoing
        if not self.returns and len(queue) == 1:
            return queue.popleft()
        parts: list[Buffer] = []
        with contextlib.suppress(IndexError):
            while True:
                segment, offset = self.returns.popleft()
                parts.extend(pack(Frame(Kind.RELEASE, segment, float(offset))))
        size = 0
        while queue and size < _GATHER_BYTES:
            parts.append(queue.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    def control(self, frame: Frame) -> None:
        """A frame about shared memory came.

        Raises:
            ProtocolError: it makes no sense.
        """
        if not 0 <= frame.number < 1 << 53:
            raise ProtocolError("a size that is none")
        number = int(frame.number)
        if frame.kind == Kind.RELEASE:
            self.arena.release(frame.call_id, number)
        elif number == 0:
            self._window.detach(frame.call_id)
        else:
            self._attach(frame, number)

    def close(self) -> None:
        """Let go of everything; buffers in use stay valid."""
        self.arena.close()
        self._side.close()

    def _attach(self, frame: Frame, size: int) -> None:
        body = frame.body
        if not isinstance(body, bytes) or len(body) != _BLOCK_SIZE.size:
            raise ProtocolError("a segment without a block size")
        descriptor = receive_descriptor(self._side)
        try:
            (block_size,) = _BLOCK_SIZE.unpack(body)
            self._window.attach(frame.call_id, size, block_size, descriptor)
        finally:
            os.close(descriptor)

    def _announce(self, segment: Segment) -> bool:
        if not send_descriptor(self._side, segment.descriptor):
            return False
        body = _BLOCK_SIZE.pack(segment.block_size)
        self._outgoing.append(b"".join(pack(Frame(Kind.SEGMENT, segment.number, float(segment.size), "", body))))
        return True

    def _retire(self, number: int) -> None:
        self._outgoing.append(b"".join(pack(Frame(Kind.SEGMENT, number))))
