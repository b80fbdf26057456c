"""HTTP/2 without bodies: frames, headers, settings, pings, and the answers that the protocol demands.

Nothing in this module waits, locks, or knows what a socket is. One thread feeds it while another one may frame.
"""

from __future__ import annotations

import abc
import struct
from collections import deque
from typing import Final

from kourou.courier.lanes.http2.hpack import HeaderDecoder
from kourou.errors import ProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = struct.Struct(">IBI")  # payload size (24 bits) and type, flags, stream
_SETTING = struct.Struct(">HI")
WORD = struct.Struct(">I")
CONNECTION = 0  # the number that stands for the connection
MAX_31_BITS = (1 << 31) - 1
_DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384
LONGEST_CONTROL = 64 << 10  # frames that are not body have to be in memory as a whole
_MAX_REPLIES = 1000  # unsent; who asks for more does not read
_PING_BYTES = 8


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
PADDED = 0x8
_PRIORITY = 0x20
PUSH_ALLOWED, MOST_CALLS, INITIAL_WINDOW, FRAME_LIMIT = 2, 3, 4, 5  # settings


def make_http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame as it is sent."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def make_settings(*settings: tuple[int, int]) -> bytes:
    """A frame that says what this end allows."""
    return make_http2_frame(
        FrameType.SETTINGS, 0, CONNECTION, b"".join(_SETTING.pack(*setting) for setting in settings)
    )


OPEN_WINDOW = make_http2_frame(FrameType.WINDOW, 0, CONNECTION, WORD.pack(MAX_31_BITS - _DEFAULT_WINDOW))


class Http2Control(abc.ABC):
    """One end of a connection, but for the bodies of its calls.

    Attributes:
        replies: what the protocol demands to be sent.
    """

    def __init__(self) -> None:
        self.replies: deque[bytes] = deque()
        self._headers_in = HeaderDecoder()
        self._block: bytearray | None = None  # of headers that go on in the next frame
        self._ends_after_block = False
        self._block_of = CONNECTION  # the stream of that block
        self._initial = _DEFAULT_WINDOW  # of a call
        self._longest_frame = DEFAULT_FRAME

    def ping(self) -> None:
        """Ask the other end to answer."""
        self.replies.append(make_http2_frame(FrameType.PING, 0, CONNECTION, bytes(_PING_BYTES)))

    def _reply(self, frame: bytes) -> None:
        if len(self.replies) >= _MAX_REPLIES:
            raise ProtocolError("it asks and asks, and does not read")
        self.replies.append(frame)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Act on a frame that is no body."""
        goes_on = self._block is not None
        if goes_on != (kind == FrameType.CONTINUATION) or (goes_on and stream != self._block_of):
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
        elif kind == FrameType.RESET:
            self._on_reset(stream, _word(payload))
        elif kind == FrameType.GOAWAY:
            self._on_goaway(_word(payload) & MAX_31_BITS, payload[8:])
        elif kind == FrameType.PUSH:
            raise ProtocolError("a push that nobody asked for")

    def _take_settings(self, payload: bytes) -> None:
        if len(payload) % _SETTING.size:
            raise ProtocolError("settings that are cut off")
        for setting, value in _SETTING.iter_unpack(payload):
            if setting == INITIAL_WINDOW:
                if value > MAX_31_BITS:
                    raise ProtocolError(f"a window of {value} bytes")
                self._on_initial_window(value - self._initial)
                self._initial = value
            elif setting == FRAME_LIMIT:
                if not DEFAULT_FRAME <= value < 1 << 24:
                    raise ProtocolError(f"frames of {value} bytes")
                self._longest_frame = value
        self._reply(make_http2_frame(FrameType.SETTINGS, ACK, CONNECTION, b""))

    def _grant(self, stream: int, payload: bytes) -> None:
        more = _word(payload) & MAX_31_BITS
        if not more or self._on_window(stream, more) > MAX_31_BITS:
            raise ProtocolError(f"a window that grows by {more} bytes")

    def _headers(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == FrameType.HEADERS:
            self._ends_after_block = bool(flags & END_STREAM)
            self._block, self._block_of = bytearray(without_padding(flags, payload)), stream
        else:
            assert self._block is not None  # noqa: S101 - it was looked at; for the type checker
            self._block += payload
            if len(self._block) > LONGEST_CONTROL:
                raise ProtocolError(f"headers of more than {LONGEST_CONTROL} bytes")
        if flags & END_HEADERS:
            block, self._block = self._block, None
            self._on_headers(stream, bytes(block), ends=self._ends_after_block)

    # -- what ends do differently ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def _on_headers(self, stream: int, block: bytes, *, ends: bool) -> None:
        """A block of headers is complete."""

    @abc.abstractmethod
    def _on_window(self, stream: int, more: int) -> int:
        """A stream, or the connection, may be sent so much more; the window that there is now."""

    @abc.abstractmethod
    def _on_initial_window(self, more: int) -> None:
        """All streams may be sent so much more, or less."""

    @abc.abstractmethod
    def _on_reset(self, stream: int, code: int) -> None:
        """A call was broken off."""

    def _on_goaway(self, last: int, words: bytes) -> None:  # noqa: B027 - a server takes no heed of it
        """The other end takes no calls after number ``last``."""


def _word(payload: bytes) -> int:
    if len(payload) < WORD.size:
        raise ProtocolError("a frame that is too short")
    return int(WORD.unpack_from(payload)[0])


def without_padding(flags: int, payload: bytes) -> bytes:
    """The contents of a frame."""
    start, stop = 0, len(payload)
    if flags & PADDED and payload:
        start, stop = 1, len(payload) - payload[0]
    if flags & _PRIORITY:
        start += 5
    if start > stop:
        raise ProtocolError("headers with more padding than headers")
    return payload[start:stop]
