"""HTTP/2 for one gRPC call that has a connection of its own.

Only what that takes: headers that do not change, and the body both ways, as far as the windows let it through.
"""

from __future__ import annotations

import abc
from collections import deque

from kourou.courier.lanes.http2.control import (
    CONNECTION,
    END_STREAM,
    FRAME_LIMIT,
    HEAD,
    INITIAL_WINDOW,
    LONGEST_CONTROL,
    MAX_31_BITS,
    PADDED,
    WORD,
    FrameType,
    Http2Control,
    make_http2_frame,
)
from kourou.courier.wire.frames import Buffer
from kourou.errors import ProtocolError

CALL = 1  # the only stream, where the client is ours; others may begin with a later one
_HEAD_SIZE = HEAD.size
_LONGEST_FRAME = 1 << 20  # what may be sent to us in one piece
_REFILL_BYTES = 1 << 30  # received, before the window is opened again
_MAX_BUFFERS = 256  # written at once; the system takes 1024
OUR_LIMITS = ((INITIAL_WINDOW, MAX_31_BITS), (FRAME_LIMIT, _LONGEST_FRAME))


class Http2(Http2Control):
    """One end of the connection. What the two have in common.

    Attributes:
        call: the number of the only stream.
        body_left: bytes of the DATA frame that is being received.
    """

    def __init__(self) -> None:
        super().__init__()
        self.call = CALL
        self.body_left = 0
        self._skip = 0  # bytes of padding, or of other calls
        self._rest = b""
        self._received = 0
        # Windows are what was granted less what was used: the thread that receives counts one, the other the other.
        self._granted_call = self._granted_whole = self._initial
        self._used = 0

    @property
    def window(self) -> int:
        """Bytes of the body that may be sent now."""
        return min(self._granted_call, self._granted_whole) - self._used

    # -- sending ----------------------------------------------------------------------------------------------

    def frames(self, body: deque[Buffer]) -> list[Buffer]:
        """What may be sent now: replies, and as much from the front of ``body`` as the windows let through."""
        found: list[Buffer] = []
        if self.replies:
            found.append(b"".join(self.replies.popleft() for _ in range(len(self.replies))))
        window = self.window
        while body and window > 0 and len(found) < _MAX_BUFFERS - 1:
            room = min(window, self._longest_frame)
            head, size = len(found), 0
            found.append(b"")
            while body and room and len(found) < _MAX_BUFFERS:
                piece = body[0]
                if len(piece) <= room:
                    body.popleft()
                else:
                    view = memoryview(piece)
                    piece, body[0] = view[:room], view[room:]
                found.append(piece)
                size += len(piece)
                room -= len(piece)
            found[head] = HEAD.pack(size << 8 | FrameType.DATA, 0, self.call)
            window -= size
            self._used += size
        return found

    # -- receiving --------------------------------------------------------------------------------------------

    def consumed(self, count: int) -> None:
        """So many bytes of the body were received without ``feed``."""
        self.body_left -= count

    def feed(self, data: bytes) -> list[bytes]:  # noqa: C901 - in one piece, because it runs for every answer
        """Act on what came; the pieces of the body in it.

        Raises:
            ProtocolError: that is not HTTP/2, or passes a limit.
        """
        pieces: list[bytes] = []
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        while True:
            if self.body_left:
                piece = data[position : position + self.body_left]
                if piece:
                    pieces.append(piece)
                position += len(piece)
                self.body_left -= len(piece)
            if self._skip:
                skipped = min(self._skip, end - position)
                position += skipped
                self._skip -= skipped
            if end - position < _HEAD_SIZE:
                break
            kind, flags, stream = HEAD.unpack_from(data, position)
            size, kind = kind >> 8, kind & 0xFF
            start = position + _HEAD_SIZE
            if kind == FrameType.DATA:
                if flags & PADDED:
                    if end == start:
                        break
                    self._skip = data[start]
                    start += 1
                self._begin_body(size, flags, stream)
                position = start
                continue
            if size > LONGEST_CONTROL:
                raise ProtocolError(f"not HTTP/2: a frame of type {kind} and {size} bytes")
            if end - start < size:
                break
            position = start + size
            self._control(kind, flags, stream & MAX_31_BITS, data[start:position])
        self._rest = data[position:]
        return pieces

    def _begin_body(self, size: int, flags: int, stream: int) -> None:
        padding = self._skip + 1 if flags & PADDED else 0
        if size > _LONGEST_FRAME or padding > size or self._block is not None:
            raise ProtocolError(f"not a body: {size} bytes on stream {stream}")
        if stream != self.call or not self._takes_body:
            self._on_unexpected_body(stream)
            self._skip = size - 1 if flags & PADDED else size
            return
        self._received += size
        if self._received >= _REFILL_BYTES:
            for whose in (CONNECTION, self.call):
                self._reply(make_http2_frame(FrameType.WINDOW, 0, whose, WORD.pack(self._received)))
            self._received = 0
        self.body_left = size - padding
        if flags & END_STREAM:
            self._on_last_body()

    def _on_window(self, stream: int, more: int) -> int:
        if stream == CONNECTION:
            self._granted_whole += more
        elif stream == self.call:
            self._granted_call += more
        return self.window

    def _on_initial_window(self, more: int) -> None:
        self._granted_call += more

    def _on_reset(self, stream: int, code: int) -> None:
        if stream == self.call:
            self._on_call_reset(code)

    # -- what the two ends do differently ---------------------------------------------------------------------

    _takes_body = True  # at present

    @abc.abstractmethod
    def _on_last_body(self) -> None:
        """The DATA frame that begins is the last one."""

    @abc.abstractmethod
    def _on_unexpected_body(self, stream: int) -> None:
        """A DATA frame begins that nobody waits for."""

    @abc.abstractmethod
    def _on_call_reset(self, code: int) -> None:
        """The call was broken off."""
