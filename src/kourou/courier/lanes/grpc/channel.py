"""A call of the Courier service that has a TCP connection of its own, from dialling to the server's first word."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator

from kourou.courier.core.protocol import SERVICE, TOKEN_KEY
from kourou.courier.core.target import Tls
from kourou.courier.lanes.http2 import tcp
from kourou.courier.lanes.http2.client import CallEnd, Http2Call
from kourou.errors import ProtocolError, RpcError, ServerUnavailable, Unauthenticated

__all__ = ["Channel", "status_error"]

_DIAL_S = 5.0  # seconds that a server may take to accept, where the caller gave no deadline
_READ_BYTES = 64 << 10
_INVALID_ARGUMENT, _UNAUTHENTICATED = 3, 16  # statuses of gRPC


class Channel:
    """A call that has begun.

    Args:
        method: of the service.
        address: ``host:port``.
        token: what the server wants to see.
        timeout_s: how long the server may take until ``clear_timeout``; None for the default.
        tls: whom to trust; None for a plain connection.

    Raises:
        ServerUnavailable: nothing answers there.
    """

    def __init__(self, method: str, address: str, token: str, timeout_s: float | None, tls: Tls | None) -> None:
        self.address = address
        self._deadline = time.monotonic() + (_DIAL_S if timeout_s is None else timeout_s)
        headers = (
            (":method", "POST"),
            (":scheme", "http" if tls is None else "https"),
            (":path", f"/{SERVICE}/{method}"),
            (":authority", address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            (TOKEN_KEY, token),
        )
        self.http2 = Http2Call(headers)
        with self._translated():
            self.socket = tcp.connect(address, self._left_s(), tls)
        try:
            self._send(self.http2.opening)
        except BaseException:
            self.socket.close()
            raise

    def ask(self, request: bytes) -> None:
        """Send all that there is to send."""
        self._send(b"".join(self.http2.frames(deque([request]))) + self.http2.end_body())

    def receive(self) -> list[bytes]:
        """Wait for more of the body.

        Raises:
            ServerUnavailable: it does not come.
            ProtocolError: what comes makes no sense.
        """
        with self._translated():
            self.socket.settimeout(self._left_s())
            data = self.socket.receive(_READ_BYTES)
        if not data:
            raise ServerUnavailable(f"{self.address} closed the connection without an answer")
        body = self.http2.feed(data)
        if self.http2.replies:
            self._send(b"".join(self.http2.frames(deque())))
        return body

    def clear_timeout(self) -> None:
        """From now on receiving may take any time."""
        self.socket.settimeout(None)

    def _send(self, data: bytes) -> None:
        with self._translated():
            while data:
                data = data[self.socket.send([data]) :]

    def _left_s(self) -> float:
        return max(1e-3, self._deadline - time.monotonic())

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise ServerUnavailable(f"{self.address} did not answer in time") from error
        except (OSError, UnicodeError) as error:  # the latter from a name that is none
            raise ServerUnavailable(f"{self.address}: {error}") from error


def status_error(end: CallEnd, address: str) -> RpcError:
    """The one place where gRPC's status codes become errors of kourou."""
    if end.status == _UNAUTHENTICATED:
        return Unauthenticated(f"{address}: {end.message}")
    if end.status == _INVALID_ARGUMENT:
        return ProtocolError(f"{address}: {end.message}")
    return ServerUnavailable(f"{address}: gRPC status {end.status}: {end.message or 'the call ended'}")
