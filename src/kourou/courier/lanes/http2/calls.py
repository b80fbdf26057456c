"""HTTP/2 for many gRPC calls on one connection: the server's end. Requests are single messages, or some, and short."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterator, Mapping

from kourou.courier.lanes.http2 import hpack
from kourou.courier.lanes.http2.control import (
    CONNECTION,
    DEFAULT_FRAME,
    END_HEADERS,
    END_STREAM,
    HEAD,
    INITIAL_WINDOW,
    MAX_31_BITS,
    MOST_CALLS,
    OPEN_WINDOW,
    PADDED,
    WORD,
    FrameType,
    Http2Control,
    make_http2_frame,
    make_settings,
    without_padding,
)
from kourou.courier.lanes.http2.packets import MessageReader, message_of, plain_message
from kourou.courier.lanes.http2.server import REFUSED, RESPONSE, RESPONSE_BLOCK, status_headers
from kourou.errors import ProtocolError

_MOST_REQUEST_BYTES = 4 << 20  # gRPC's own default
_MOST_AT_ONCE = 128
_REFILL_BYTES = 1 << 30  # received, before the window is opened again
_ENDED_WELL = hpack.encode(status_headers(0, ""))
_TOO_LONG = 8  # a status of gRPC


@dataclasses.dataclass(eq=False, slots=True)
class IncomingCall:
    """One call of a client."""

    number: int
    """Of its stream."""
    path: str
    """Of the method."""
    window: int
    """Bytes of the answer that may be sent now."""
    reader: MessageReader | None
    """Of a request that is a stream."""
    body: bytearray = dataclasses.field(default_factory=bytearray)
    """Of the request, as far as it has come, until it is complete."""
    is_complete: bool = False
    ungranted: int = 0
    """Bytes of a stream that were received, and are not granted again."""
    unsent: bytearray = dataclasses.field(default_factory=bytearray)
    """Of the answer, what has not been framed yet."""
    begun: bool = False
    """The answer is under way."""
    trailers: bytes | None = None
    """What ends it."""


class Http2Calls(Http2Control):
    """The server's end. What it has to say first is ``hello``. For one thread.

    Args:
        streams: paths of methods whose requests are streams.
        refusal: asked for the headers of a call, before its body is taken: a status of gRPC and words, or None.
        on_message: called with a call's request, or with each message of it.
        on_end: called with a call whose request is a stream, at its end.
        on_gone: called with a call of which the client does not want to hear any more.
    """

    hello = make_settings((MOST_CALLS, _MOST_AT_ONCE), (INITIAL_WINDOW, 2 * _MOST_REQUEST_BYTES)) + OPEN_WINDOW

    def __init__(
        self,
        streams: Container[str],
        refusal: Callable[[Mapping[str, str]], tuple[int, str] | None],
        on_message: Callable[[IncomingCall, bytes], None],
        on_end: Callable[[IncomingCall], None],
        on_gone: Callable[[IncomingCall], None],
    ) -> None:
        super().__init__()
        self._streams = streams
        self._refusal = refusal
        self._on_message = on_message
        self._on_end = on_end
        self._on_gone = on_gone
        self._calls: dict[int, IncomingCall] = {}
        self._to_answer: dict[int, IncomingCall] = {}  # that have something to be sent
        self._last = 0  # the highest number of a call
        self._rest = b""
        self._window = self._initial  # of the connection
        self._received = 0

    # -- sending --------------------------------------------------------------------------------------------------

    def answer(self, call: IncomingCall, message: bytes) -> None:
        """Send a message."""
        if call.number in self._calls:
            call.unsent += plain_message(message)
            self._to_answer[call.number] = call

    def end(self, call: IncomingCall, status: int = 0, words: str = "") -> None:
        """End a call, after what was sent before."""
        if call.number in self._calls:
            call.is_complete = True
            call.trailers = hpack.encode(status_headers(status, words)) if status else _ENDED_WELL
            self._to_answer[call.number] = call

    def take(self) -> bytes:
        """What may be sent now, as far as the windows let it through."""
        found = list(self.replies)
        self.replies.clear()
        for call in list(self._to_answer.values()):
            found += self._frames_of(call)
        return b"".join(found)

    def _frames_of(self, call: IncomingCall) -> Iterator[bytes]:
        if not call.begun:
            call.begun = True
            yield make_http2_frame(FrameType.HEADERS, END_HEADERS, call.number, RESPONSE_BLOCK)
        while call.unsent and (room := min(call.window, self._window, self._longest_frame)) > 0:
            piece = bytes(call.unsent[:room])
            del call.unsent[:room]
            call.window -= len(piece)
            self._window -= len(piece)
            yield make_http2_frame(FrameType.DATA, 0, call.number, piece)
        if call.unsent:
            return
        del self._to_answer[call.number]
        if call.trailers is not None:
            yield make_http2_frame(FrameType.HEADERS, END_HEADERS | END_STREAM, call.number, call.trailers)
            del self._calls[call.number]

    # -- receiving ------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Act on what came.

        Raises:
            ProtocolError: that is not HTTP/2, or passes a limit.
        """
        data = self._rest + data
        position = 0
        while len(data) - position >= HEAD.size:
            kind, flags, stream = HEAD.unpack_from(data, position)
            size, kind = kind >> 8, kind & 0xFF
            if size > DEFAULT_FRAME:
                raise ProtocolError(f"not HTTP/2: a frame of type {kind} and {size} bytes")
            start, position = position + HEAD.size, position + HEAD.size + size
            if position > len(data):
                position = start - HEAD.size
                break
            if kind == FrameType.DATA:
                self._take_body(flags, stream & MAX_31_BITS, data[start:position])
            else:
                self._control(kind, flags, stream & MAX_31_BITS, data[start:position])
        self._rest = data[position:]

    def _take_body(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None or not 0 < stream <= self._last:
            raise ProtocolError(f"not a body: {len(payload)} bytes on stream {stream}")
        self._received += len(payload)
        if self._received >= _REFILL_BYTES:
            self._reply(make_http2_frame(FrameType.WINDOW, 0, CONNECTION, WORD.pack(self._received)))
            self._received = 0
        call = self._calls.get(stream)
        if call is None or call.is_complete:
            return  # it was refused, or is over
        body = without_padding(flags & PADDED, payload)
        if call.reader is None:
            call.body += body
            unread = len(call.body)
        else:
            unread = self._take_messages(call, call.reader, body)
        if unread > _MOST_REQUEST_BYTES:
            self.end(call, _TOO_LONG, f"a request of more than {_MOST_REQUEST_BYTES} bytes")
        elif flags & END_STREAM:
            self._complete(call)

    def _take_messages(self, call: IncomingCall, reader: MessageReader, body: bytes) -> int:
        """Act on the messages of a stream that are complete; bytes of one that is not."""
        for message in reader.feed((body,)):
            if not call.is_complete:
                self._on_message(call, message)
        call.ungranted += len(body)
        if call.ungranted >= _MOST_REQUEST_BYTES:
            self._reply(make_http2_frame(FrameType.WINDOW, 0, call.number, WORD.pack(call.ungranted)))
            call.ungranted = 0
        return reader.unread

    def _complete(self, call: IncomingCall) -> None:
        if call.is_complete:
            return
        call.is_complete = True
        if call.reader is not None:
            self._on_end(call)
            return
        request = message_of(call.body)
        call.body.clear()
        self._on_message(call, request)

    def _on_headers(self, stream: int, block: bytes, *, ends: bool) -> None:
        headers = dict(self._headers_in.decode(block))
        if stream <= self._last:  # they end a request
            call = self._calls.get(stream)
            if call is not None and ends:
                self._complete(call)
            return
        if not stream % 2:
            raise ProtocolError(f"a call with the number {stream}")
        self._last = stream
        refusal = self._refusal(headers)
        if refusal is not None:
            words = hpack.encode((*RESPONSE, *status_headers(*refusal)))
            self._reply(make_http2_frame(FrameType.HEADERS, END_HEADERS | END_STREAM, stream, words))
        elif len(self._calls) >= _MOST_AT_ONCE:
            self._reply(make_http2_frame(FrameType.RESET, 0, stream, WORD.pack(REFUSED)))
        else:
            path = headers.get(":path", "")
            reader = MessageReader() if path in self._streams else None
            call = self._calls[stream] = IncomingCall(stream, path, self._initial, reader)
            if ends:
                self._complete(call)

    def _on_window(self, stream: int, more: int) -> int:
        if stream == CONNECTION:
            self._window += more
            return self._window
        call = self._calls.get(stream)
        if call is None:
            return 0
        call.window += more
        return call.window

    def _on_initial_window(self, more: int) -> None:
        for call in self._calls.values():
            call.window += more

    def _on_reset(self, stream: int, code: int) -> None:
        del code
        call = self._calls.pop(stream, None)
        self._to_answer.pop(stream, None)
        if call is not None:
            self._on_gone(call)
