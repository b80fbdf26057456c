"""A gRPC call that has a connection of its own, from dialling to the server's first word."""

from __future__ import annotations

import contextlib
import math
import select
import threading
import time
from collections import deque
from collections.abc import Iterator

from kourou.courier.core.target import Tls
from kourou.courier.lanes.http2 import tcp
from kourou.courier.lanes.http2.client import CallEnd, Http2Call
from kourou.courier.wire.frames import Buffer
from kourou.errors import ProtocolError, RpcError, ServerUnavailable, Unauthenticated

_DIAL_S = 5.0  # seconds that a server may take to accept, where the caller gave no deadline
_READ_BYTES = 64 << 10
_INVALID_ARGUMENT, _UNAUTHENTICATED = 3, 16  # statuses of gRPC


class Channel:
    """A call that has begun.

    Args:
        address: ``host:port``, or ``unix:`` and the path of a socket.
        timeout_s: how long the server may take until ``clear_timeout``; None for the default.
        tls: whom to trust; None for a plain connection.

    Raises:
        ServerUnavailable: nothing answers there.
    """

    def __init__(
        self, path: str, address: str, token: tuple[str, str], timeout_s: float | None, tls: Tls | None = None
    ) -> None:
        self.address = address
        self._deadline = time.monotonic() + (_DIAL_S if timeout_s is None else timeout_s)
        headers = (
            (":method", "POST"),
            (":scheme", "http" if tls is None else "https"),
            (":path", path),
            (":authority", "localhost" if tcp.is_unix(address) else address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            token,
        )
        self.http2 = Http2Call(headers)
        self._opening = self.http2.opening  # goes with the request, as one packet
        self._sending = threading.RLock()
        with self._translated():
            self.socket = tcp.connect(address, self._left_s(), tls)

    def open(self) -> None:
        """Begin the call, if it has not begun, without waiting for what there is to send."""
        if self._opening:
            self._send(b"")

    def ask(self, request: bytes) -> None:
        """Send all that there is to send, as the server grants room for it."""
        body: deque[Buffer] = deque([request])
        while body and not self.http2.end:
            if self.http2.window > 0:
                frames = self.http2.frames(body)
                self._send(b"".join(frames if body else [*frames, self.http2.end_body()]))
            else:
                self.receive()  # nothing is said before the request is complete, but that there is room

    def say(self, piece: bytes, *, last: bool = False) -> None:
        """Send a part of the request at once, in any thread, while another one may receive.

        Raises:
            ServerUnavailable: the server is gone, or has taken too little of what was said before.
        """
        with self._sending:
            if len(piece) > self.http2.window:
                raise ServerUnavailable(f"{self.address} takes no more at present")
            body: deque[Buffer] = deque([piece] if piece else [])
            frames = self.http2.frames(body)
            while body:
                frames += self.http2.frames(body)
            self._send(b"".join([*frames, self.http2.end_body()] if last else frames))

    def receive(self) -> list[bytes]:
        """Wait for more of the body.

        Raises:
            ServerUnavailable: it does not come.
            ProtocolError: what comes makes no sense.
        """
        self.open()
        with self._translated():
            self.socket.settimeout(self._left_s())
            data = self.socket.receive(_READ_BYTES)
        if not data:
            raise ServerUnavailable(f"{self.address} closed the connection without an answer")
        body = self.http2.feed(data)
        if self.http2.replies and not self.http2.end:
            with self._sending:
                self._send(b"".join(self.http2.frames(deque())))
        return body

    def clear_timeout(self) -> None:
        """From now on receiving may take any time."""
        self._deadline = math.inf
        self.socket.settimeout(None)

    def _send(self, data: bytes) -> None:
        with self._sending, self._translated():
            data, self._opening = self._opening + data, b""
            while data:
                try:
                    data = data[self.socket.send([data]) :]
                except BlockingIOError:
                    self._await_room()

    def _await_room(self) -> None:
        poller = select.poll()
        poller.register(self.socket, select.POLLOUT)
        left_s = self._left_s()
        if not poller.poll(None if left_s is None else left_s * 1e3):
            raise TimeoutError

    def _left_s(self) -> float | None:
        return None if self._deadline == math.inf else max(1e-3, self._deadline - time.monotonic())

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
