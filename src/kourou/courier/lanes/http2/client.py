"""HTTP/2 for one gRPC call that has a connection of its own: the client's end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

from kourou.courier.lanes.http2 import hpack
from kourou.courier.lanes.http2.control import (
    END_HEADERS,
    END_STREAM,
    OPEN_WINDOW,
    PREFACE,
    PUSH_ALLOWED,
    FrameType,
    make_http2_frame,
    make_settings,
)
from kourou.courier.lanes.http2.framing import CALL, OUR_LIMITS, Http2
from kourou.errors import ProtocolError


class CallEnd(NamedTuple):
    """How the server ended the call."""

    status: int  # of gRPC
    message: str


class Http2Call(Http2):
    """The client's end."""

    def __init__(self, headers: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.opening = b"".join((
            PREFACE,
            make_settings((PUSH_ALLOWED, 0), *OUR_LIMITS),
            OPEN_WINDOW,
            make_http2_frame(FrameType.HEADERS, END_HEADERS, CALL, hpack.encode(headers)),
        ))  # fmt: skip
        self.end: CallEnd | None = None
        self._found: dict[str, str] = {}

    def end_body(self) -> bytes:
        """The frame that says that nothing follows."""
        return make_http2_frame(FrameType.DATA, END_STREAM, CALL, b"")

    def _on_headers(self, stream: int, block: bytes, *, ends: bool) -> None:
        if stream != CALL or self.end:
            raise ProtocolError(f"headers of stream {stream}")
        self._found.update(self._headers_in.decode(block))
        if ends:
            self._finish()

    def _finish(self) -> None:
        status = self._found.get("grpc-status", "")
        if status.isascii() and status.isdecimal() and len(status) < 10:  # noqa: PLR2004 - nobody has more
            self._end(int(status), unquote(self._found.get("grpc-message", "")))
        else:
            self._end(2, f"no gRPC server: HTTP status {self._found.get(':status', 'unknown')}")

    def _end(self, status: int, message: str) -> None:
        self._takes_body = False
        if self.end is None:
            self.end = CallEnd(status, message)

    def _on_last_body(self) -> None:
        raise ProtocolError("the server ended the call without a status")

    def _on_unexpected_body(self, stream: int) -> None:
        raise ProtocolError(f"a body on stream {stream}, or after the end")

    def _on_call_reset(self, code: int) -> None:
        self._end(14, f"the server reset the stream (code {code})")

    def _on_goaway(self, last: int, words: bytes) -> None:
        if last < CALL:
            self._end(14, f"the server went away: {words.decode(errors='replace')}")
