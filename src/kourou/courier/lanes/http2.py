"""HTTP/2 for one gRPC call that has a connection of its own, client side.

Only what that takes: constant request headers, the body both ways, windows, and the answers that the protocol demands.
Nothing in this module waits, locks, or knows what a socket is. One thread feeds it while another one may frame.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote

from kourou.courier.frames import Buffer
from kourou.courier.lanes import hpack
from kourou.errors import ProtocolError

__all__ = ["CallEnd", "Http2Call"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = struct.Struct(">IBI")  # payload size (24 bits) and type, flags, stream
_HEAD_SIZE = _HEAD.size
_SETTING = struct.Struct(">HI")
_WORD = struct.Struct(">I")
_CALL = 1  # the only stream
_WHOLE = 0  # the number that stands for the connection
_LOW_31 = (1 << 31) - 1
_DEFAULT_WINDOW = 65_535
_DEFAULT_FRAME = 16_384
_LONGEST_FRAME = 1 << 20  # what a server may send in one piece
_LONGEST_CONTROL = 64 << 10  # frames that are not body have to be in memory as a whole
_MOST_REPLIES = 1000  # unsent; a server that asks for more does not read
_REFILL_BYTES = 1 << 30  # received, before the window is opened again
_MOST_BUFFERS = 256  # written at once; the system takes 1024


class _Type:
    DATA: Final = 0
    HEADERS: Final = 1
    RESET: Final = 3
    SETTINGS: Final = 4
    PUSH: Final = 5
    PING: Final = 6
    GOAWAY: Final = 7
    WINDOW: Final = 8
    CONTINUATION: Final = 9


_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_PRIORITY = 0x20
_HEADER_TABLE, _PUSH_ALLOWED, _INITIAL_WINDOW, _FRAME_LIMIT = 1, 2, 4, 5  # settings


class CallEnd(NamedTuple):
    """How the server ended the call."""

    status: int  # of gRPC
    message: str


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


class Http2Call:
    """The call.

    Args:
        headers: of the request, in order.
    """

    def __init__(self, headers: Sequence[tuple[str, str]]) -> None:
        settings = ((_HEADER_TABLE, 0), (_PUSH_ALLOWED, 0), (_INITIAL_WINDOW, _LOW_31), (_FRAME_LIMIT, _LONGEST_FRAME))
        self.opening = b"".join((
            _PREFACE,
            _frame(_Type.SETTINGS, 0, _WHOLE, b"".join(_SETTING.pack(*setting) for setting in settings)),
            _frame(_Type.WINDOW, 0, _WHOLE, _WORD.pack(_LOW_31 - _DEFAULT_WINDOW)),
            _frame(_Type.HEADERS, _END_HEADERS, _CALL, hpack.encode(headers)),
        ))  # fmt: skip
        self.end: CallEnd | None = None
        self.body_left = 0  # of the DATA frame that is being received
        self.replies: deque[bytes] = deque()  # what the protocol demands to be sent
        self._padding_left = 0
        self._rest = b""
        self._block: bytes | None = None  # of headers that go on in the next frame
        self._ends_after_block = False
        self._found: dict[str, str] = {}
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
        while body and window > 0 and len(found) < _MOST_BUFFERS - 1:
            room = min(window, self._longest_frame)
            head, size = len(found), 0
            found.append(b"")
            while body and room and len(found) < _MOST_BUFFERS:
                piece = body[0]
                if len(piece) <= room:
                    body.popleft()
                else:
                    view = memoryview(piece)
                    piece, body[0] = view[:room], view[room:]
                found.append(piece)
                size += len(piece)
                room -= len(piece)
            found[head] = _HEAD.pack(size << 8 | _Type.DATA, 0, _CALL)
            window -= size
            self._used += size
        return found

    def ping(self) -> None:
        """Ask the server to answer."""
        self.replies.append(_frame(_Type.PING, 0, _WHOLE, bytes(8)))

    def end_body(self) -> bytes:
        """The frame that says that nothing follows."""
        return _frame(_Type.DATA, _END_STREAM, _CALL, b"")

    # -- receiving --------------------------------------------------------------------------------------------

    def took(self, count: int) -> None:
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
            if self._padding_left:
                skipped = min(self._padding_left, end - position)
                position += skipped
                self._padding_left -= skipped
            if end - position < _HEAD_SIZE:
                break
            kind, flags, stream = _HEAD.unpack_from(data, position)
            size, kind = kind >> 8, kind & 0xFF
            start = position + _HEAD_SIZE
            if kind == _Type.DATA:
                if flags & _PADDED:
                    if end == start:
                        break
                    self._padding_left = data[start]
                    start += 1
                self._begin_body(size, flags, stream)
                position = start
                continue
            if size > _LONGEST_CONTROL:
                raise ProtocolError(f"not HTTP/2: a frame of type {kind} and {size} bytes")
            if end - start < size:
                break
            position = start + size
            self._control(kind, flags, stream & _LOW_31, data[start:position])
        self._rest = data[position:]
        return pieces

    def _begin_body(self, size: int, flags: int, stream: int) -> None:
        padding = self._padding_left + 1 if flags & _PADDED else 0
        if stream != _CALL or size > _LONGEST_FRAME or padding > size or self.end or self._block is not None:
            raise ProtocolError(f"not a body: {size} bytes on stream {stream}")
        self.body_left = size - padding
        self._received += size
        if self._received >= _REFILL_BYTES:
            for whose in (_WHOLE, _CALL):
                self._reply(_frame(_Type.WINDOW, 0, whose, _WORD.pack(self._received)))
            self._received = 0
        if flags & _END_STREAM:
            raise ProtocolError("the server ended the call without a status")

    def _reply(self, frame: bytes) -> None:
        if len(self.replies) >= _MOST_REPLIES:
            raise ProtocolError("a server that asks and asks, and does not read")
        self.replies.append(frame)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if (self._block is not None) != (kind == _Type.CONTINUATION):
            raise ProtocolError("headers that are not continued, or continue nothing")
        if kind in {_Type.HEADERS, _Type.CONTINUATION}:
            self._headers(kind, flags, stream, payload)
        elif kind == _Type.SETTINGS and not flags & _ACK:
            self._settings(payload)
        elif kind == _Type.PING and not flags & _ACK:
            self._reply(_frame(_Type.PING, _ACK, _WHOLE, payload))
        elif kind == _Type.WINDOW:
            self._grant(stream, payload)
        elif kind == _Type.RESET and stream == _CALL:
            self._end(14, f"the server reset the stream (code {_word(payload)})")
        elif kind == _Type.GOAWAY and _word(payload) & _LOW_31 < _CALL:
            self._end(14, f"the server went away: {payload[8:].decode(errors='replace')}")
        elif kind == _Type.PUSH:
            raise ProtocolError("the server pushes what nobody asked for")

    def _settings(self, payload: bytes) -> None:
        if len(payload) % _SETTING.size:
            raise ProtocolError("settings that are cut off")
        for setting, value in _SETTING.iter_unpack(payload):
            if setting == _INITIAL_WINDOW:
                if value > _LOW_31:
                    raise ProtocolError(f"a window of {value} bytes")
                self._granted_call += value - self._initial
                self._initial = value
            elif setting == _FRAME_LIMIT:
                if not _DEFAULT_FRAME <= value < 1 << 24:
                    raise ProtocolError(f"frames of {value} bytes")
                self._longest_frame = value
        self._reply(_frame(_Type.SETTINGS, _ACK, _WHOLE, b""))

    def _grant(self, stream: int, payload: bytes) -> None:
        more = _word(payload) & _LOW_31
        if stream == _WHOLE:
            self._granted_whole += more
        elif stream == _CALL:
            self._granted_call += more
        if not more or min(self._granted_whole, self._granted_call) - self._used > _LOW_31:
            raise ProtocolError(f"a window that grows by {more} bytes")

    def _headers(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if stream != _CALL or self.end:
            raise ProtocolError(f"headers of stream {stream}")
        if kind == _Type.HEADERS:
            self._ends_after_block = bool(flags & _END_STREAM)
            self._block = _without_padding(flags, payload)
        else:
            self._block = (self._block or b"") + payload
            if len(self._block) > _LONGEST_CONTROL:
                raise ProtocolError(f"headers of more than {_LONGEST_CONTROL} bytes")
        if flags & _END_HEADERS:
            self._found.update(hpack.decode(self._block))
            self._block = None
            if self._ends_after_block:
                self._finish()

    def _finish(self) -> None:
        status = self._found.get("grpc-status", "")
        if status.isascii() and status.isdecimal() and len(status) < 10:  # noqa: PLR2004 - nobody has more
            self._end(int(status), unquote(self._found.get("grpc-message", "")))
        else:
            self._end(2, f"no gRPC server: HTTP status {self._found.get(':status', 'unknown')}")

    def _end(self, status: int, message: str) -> None:
        if self.end is None:
            self.end = CallEnd(status, message)


def _word(payload: bytes) -> int:
    if len(payload) < _WORD.size:
        raise ProtocolError("a frame that is too short")
    return int(_WORD.unpack_from(payload)[0])


def _without_padding(flags: int, payload: bytes) -> bytes:
    start, stop = 0, len(payload)
    if flags & _PADDED and payload:
        start, stop = 1, len(payload) - payload[0]
    if flags & _PRIORITY:
        start += 5
    if start > stop:
        raise ProtocolError("headers with more padding than headers")
    return payload[start:stop]
