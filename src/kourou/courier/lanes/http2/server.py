"""HTTP/2 for one gRPC call that has a connection of its own: the server's end."""

from __future__ import annotations

from urllib.parse import quote

from kourou.courier.lanes.http2 import hpack
from kourou.courier.lanes.http2.control import (
    CONNECTION,
    END_HEADERS,
    END_STREAM,
    OPEN_WINDOW,
    WORD,
    FrameType,
    make_http2_frame,
    make_settings,
)
from kourou.courier.lanes.http2.framing import OUR_LIMITS, Http2
from kourou.errors import ProtocolError

REFUSED = 7  # of a stream: nothing of it was done
RESPONSE = ((":status", "200"), ("content-type", "application/grpc"))
RESPONSE_BLOCK = hpack.encode(RESPONSE)


class Http2Service(Http2):
    """The server's end. What it has to say first is ``hello``; all else only if it wants the call: ``accept``.

    Attributes:
        request: the headers of the call, the last of each name; None as long as there are none.
        ended: the client says no more.
        was_reset: it does not want to hear any more, either.
    """

    hello = make_settings()

    def __init__(self) -> None:
        super().__init__()
        self.request: dict[str, str] | None = None
        self.ended = self.was_reset = False
        self._takes_body = False

    def accept(self) -> None:
        """Take the call, and no other one on this connection."""
        self.replies.append(make_settings(*OUR_LIMITS) + OPEN_WINDOW)
        response = make_http2_frame(FrameType.HEADERS, END_HEADERS, self.call, RESPONSE_BLOCK)
        self.replies.append(self._no_other() + response)

    def rejection(self, status: int, message: str) -> bytes:
        """What ends a call that was not accepted."""
        return self._no_other() + self._last_headers((*RESPONSE, *status_headers(status, message)))

    def trailers(self, status: int, message: str) -> bytes:
        """What ends one that was."""
        return self._last_headers(status_headers(status, message))

    def _on_headers(self, stream: int, block: bytes, *, ends: bool) -> None:
        if not stream % 2:
            raise ProtocolError(f"a call with the number {stream}")
        if self.request is None:
            self.call = stream
            self.request = dict(self._headers_in.decode(block))
            self._takes_body = not ends
            self.ended = ends
        elif stream == self.call:
            raise ProtocolError("a second request on one stream")
        else:  # what its headers say is of no interest, nor is what later ones may refer to
            self._reply(make_http2_frame(FrameType.RESET, 0, stream, WORD.pack(REFUSED)))

    def _on_last_body(self) -> None:
        self.ended = True
        self._takes_body = False

    def _on_unexpected_body(self, stream: int) -> None:
        if self.request is None or stream in {CONNECTION, self.call}:
            raise ProtocolError("a body before the request, or after its end")

    def _on_call_reset(self, code: int) -> None:
        del code
        self.ended = self.was_reset = True
        self._takes_body = False

    def _no_other(self) -> bytes:
        """The frame that says that this is the connection's only call."""
        return make_http2_frame(FrameType.GOAWAY, 0, CONNECTION, WORD.pack(self.call) + WORD.pack(0))

    def _last_headers(self, headers: tuple[tuple[str, str], ...]) -> bytes:
        return make_http2_frame(FrameType.HEADERS, END_HEADERS | END_STREAM, self.call, hpack.encode(headers))


def status_headers(status: int, message: str) -> tuple[tuple[str, str], ...]:
    """How a call ended."""
    return ("grpc-status", str(status)), ("grpc-message", quote(message, safe=" "))
