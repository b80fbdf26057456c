"""HTTP/2 for one gRPC call that has a connection of its own.

Only what that takes: headers that do not change, the body both ways, windows, and the answers that the protocol
demands. Nothing in this module waits, locks, or knows what a socket is. One thread feeds it while another one may
frame.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

from kourou.courier.lanes.http2.hpack import HeaderDecoder
from kourou.courier.wire.frames import Buffer
from kourou.errors import ProtocolError

__all__ = [
    "ACK",
    "CALL",
    "CONNECTION",
    "END_HEADERS",
    "END_STREAM",
    "OPEN_WINDOW",
    "OUR_LIMITS",
    "PREFACE",
    "PUSH_ALLOWED",
    "WORD",
    "FrameType",
    "Http2",
    "make_http2_frame",
    "make_settings",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = struct.Struct(">IBI")  # payload size (24 bits) and type, flags, stream
_HEAD_SIZE = _HEAD.size
_SETTING = struct.Struct(">HI")
WORD = struct.Struct(">I")
CALL = 1  # the only stream, where the client is ours; others may begin with a later one
CONNECTION = 0  # the number that stands for the connection
_MAX_31_BITS = (1 << 31) - 1
_DEFAULT_WINDOW = 65_535
_DEFAULT_FRAME = 16_384
_LONGEST_FRAME = 1 << 20  # what may be sent to us in one piece
_LONGEST_CONTROL = 64 << 10  # frames that are not body have to be in memory as a whole
_MAX_REPLIES = 1000  # unsent; who asks for more does not read
_REFILL_BYTES = 1 << 30  # received, before the window is opened again
_PING_BYTES = 8
_MAX_BUFFERS = 256  # written at once; the system takes 1024


class FrameType:
    """Kinds of frames, of HTTP/2; plain integers, because they are compared for every packet."""

    DATA: Final = 0
    HEADERS: Final = 1
    RESET: Final = 3
    SETTINGS: Final = 4
    PUSH: Final = 5
    PING: Final = 6
    GOAWAY: Final = 7
    WINDOW: Final = 8
    CONTINUATION: Final = 9


END_STREAM = ACK = 0x1
END_HEADERS = 0x4
_PADDED = 0x8
_PRIORITY = 0x20
PUSH_ALLOWED, _INITIAL_WINDOW, _FRAME_LIMIT = 2, 4, 5  # settings


def make_http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame as it is sent."""
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def make_settings(*settings: tuple[int, int]) -> bytes:
    """A frame that says what this end allows."""
    return make_http2_frame(
        FrameType.SETTINGS, 0, CONNECTION, b"".join(_SETTING.pack(*setting) for setting in settings)
    )


OUR_LIMITS = ((_INITIAL_WINDOW, _MAX_31_BITS), (_FRAME_LIMIT, _LONGEST_FRAME))
OPEN_WINDOW = make_http2_frame(FrameType.WINDOW, 0, CONNECTION, WORD.pack(_MAX_31_BITS - _DEFAULT_WINDOW))


class Http2:
    """One end of the connection. What the two have in common.

    Attributes:
        call: the number of the only stream.
        body_left: bytes of the DATA frame that is being received.
        replies: what the protocol demands to be sent.
    """

    def __init__(self) -> None:
        self.call = CALL
        self.body_left = 0
        self._headers_in = HeaderDecoder()
        self.replies: deque[bytes] = deque()
        self._skip = 0  # bytes of padding, or of other calls
        self._rest = b""
        self._block: bytearray | None = None  # of headers that go on in the next frame
        self._ends_after_block = False
        self._received = 0
        # Windows are what was granted less what was used: the thread that receives counts one, the other the other.
        self._granted_call = self._granted_whole = self._initial = _DEFAULT_WINDOW
        self._used = 0
        self._longest_frame = _DEFAULT_FRAME

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
            found[head] = _HEAD.pack(size << 8 | FrameType.DATA, 0, self.call)
            window -= size
            self._used += size
        return found

    def ping(self) -> None:
        """Ask the other end to answer."""
        self.replies.append(make_http2_frame(FrameType.PING, 0, CONNECTION, bytes(_PING_BYTES)))

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
            kind, flags, stream = _HEAD.unpack_from(data, position)
            size, kind = kind >> 8, kind & 0xFF
            start = position + _HEAD_SIZE
            if kind == FrameType.DATA:
                if flags & _PADDED:
                    if end == start:
                        break
                    self._skip = data[start]
                    start += 1
                self._begin_body(size, flags, stream)
                position = start
                continue
            if size > _LONGEST_CONTROL:
                raise ProtocolError(f"not HTTP/2: a frame of type {kind} and {size} bytes")
            if end - start < size:
                break
            position = start + size
            self._control(kind, flags, stream & _MAX_31_BITS, data[start:position])
        self._rest = data[position:]
        return pieces

    def _begin_body(self, size: int, flags: int, stream: int) -> None:
        padding = self._skip + 1 if flags & _PADDED else 0
        if size > _LONGEST_FRAME or padding > size or self._block is not None:
            raise ProtocolError(f"not a body: {size} bytes on stream {stream}")
        if stream != self.call or not self._takes_body:
            self._on_unexpected_body(stream)
            self._skip = size - 1 if flags & _PADDED else size
            return
        self._received += size
        if self._received >= _REFILL_BYTES:
            for whose in (CONNECTION, self.call):
                self._reply(make_http2_frame(FrameType.WINDOW, 0, whose, WORD.pack(self._received)))
            self._received = 0
        self.body_left = size - padding
        if flags & END_STREAM:
            self._on_last_body()

    def _reply(self, frame: bytes) -> None:
        if len(self.replies) >= _MAX_REPLIES:
            raise ProtocolError("it asks and asks, and does not read")
        self.replies.append(frame)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if (self._block is not None) != (kind == FrameType.CONTINUATION):
            raise ProtocolError("headers that are not continued, or continue nothing")
        if kind in {FrameType.HEADERS, FrameType.CONTINUATION}:
            self._headers(kind, flags, stream, payload)
        elif kind == FrameType.SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == FrameType.PING and len(payload) != _PING_BYTES:
            raise ProtocolError(f"a ping of {len(payload)} bytes")
        elif kind == FrameType.PING and not flags & ACK:
            self._reply(make_http2_frame(FrameType.PING, ACK, CONNECTION, payload))
        elif kind == FrameType.WINDOW:
            self._grant(stream, payload)
        elif kind == FrameType.RESET and stream == self.call:
            self._on_reset(_word(payload))
        elif kind == FrameType.GOAWAY:
            self._on_goaway(_word(payload) & _MAX_31_BITS, payload[8:])
        elif kind == FrameType.PUSH:
            raise ProtocolError("a push that nobody asked for")

    def _take_settings(self, payload: bytes) -> None:
        if len(payload) % _SETTING.size:
            raise ProtocolError("settings that are cut off")
        for setting, value in _SETTING.iter_unpack(payload):
            if setting == _INITIAL_WINDOW:
                if value > _MAX_31_BITS:
                    raise ProtocolError(f"a window of {value} bytes")
                self._granted_call += value - self._initial
                self._initial = value
            elif setting == _FRAME_LIMIT:
                if not _DEFAULT_FRAME <= value < 1 << 24:
                    raise ProtocolError(f"frames of {value} bytes")
                self._longest_frame = value
        self._reply(make_http2_frame(FrameType.SETTINGS, ACK, CONNECTION, b""))

    def _grant(self, stream: int, payload: bytes) -> None:
        more = _word(payload) & _MAX_31_BITS
        if stream == CONNECTION:
            self._granted_whole += more
        elif stream == self.call:
            self._granted_call += more
        if not more or min(self._granted_whole, self._granted_call) - self._used > _MAX_31_BITS:
            raise ProtocolError(f"a window that grows by {more} bytes")

    def _headers(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == FrameType.HEADERS:
            self._ends_after_block = bool(flags & END_STREAM)
            self._block = bytearray(_without_padding(flags, payload))
        else:
            assert self._block is not None  # noqa: S101 - it was looked at; for the type checker
            self._block += payload
            if len(self._block) > _LONGEST_CONTROL:
                raise ProtocolError(f"headers of more than {_LONGEST_CONTROL} bytes")
        if flags & END_HEADERS:
            block, self._block = self._block, None
            self._on_headers(stream, bytes(block), ends=self._ends_after_block)

    # -- what the two ends do differently ---------------------------------------------------------------------

    _takes_body = True  # at present

    def _on_headers(self, stream: int, block: bytes, *, ends: bool) -> None:
        """A block of headers is complete."""
        raise NotImplementedError

    def _on_last_body(self) -> None:
        """The DATA frame that begins is the last one."""
        raise NotImplementedError

    def _on_unexpected_body(self, stream: int) -> None:
        """A DATA frame begins that nobody waits for."""
        raise NotImplementedError

    def _on_reset(self, code: int) -> None:
        """The call was broken off."""
        raise NotImplementedError

    def _on_goaway(self, last: int, words: bytes) -> None:
        """The other end takes no calls after number ``last``."""


def _word(payload: bytes) -> int:
    if len(payload) < WORD.size:
        raise ProtocolError("a frame that is too short")
    return int(WORD.unpack_from(payload)[0])


def _without_padding(flags: int, payload: bytes) -> bytes:
    start, stop = 0, len(payload)
    if flags & _PADDED and payload:
        start, stop = 1, len(payload) - payload[0]
    if flags & _PRIORITY:
        start += 5
    if start > stop:
        raise ProtocolError("headers with more padding than headers")
    return payload[start:stop]
