"""One client of the gRPC lane, as the server sees it: who it is, its calls, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import threading
import time
from collections.abc import Callable, Sequence

from kourou.courier.core.protocol import SERVICE, TOKEN_KEY
from kourou.courier.lanes.grpc.answer_sender import AnswerSender
from kourou.courier.lanes.grpc.frame_reader import FrameReader
from kourou.courier.lanes.http2.control import PREFACE
from kourou.courier.lanes.http2.server import Http2Service
from kourou.courier.lanes.http2.tcp import TcpSocket
from kourou.courier.lanes.loop.acceptor import ServedConnection
from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.serving.call_info import Peer
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.courier.serving.session import Session
from kourou.courier.wire.frames import Frame, Kind
from kourou.errors import ProtocolError, Unauthenticated

_CONNECT, _DESCRIBE = f"/{SERVICE}/Connect", f"/{SERVICE}/Describe"
_MAX_RAW = 64 << 10  # bytes before a request
_MAX_LEFT = 1000  # calls that a client may make while it grants no window for answers
_LINGER_S = 10.0  # how long a client that was told the end may take to go
_INVALID_ARGUMENT, _UNAUTHENTICATED = 3, 16  # statuses of gRPC


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrpcService:
    """What a server has for its clients."""

    dispatcher: Dispatcher  # runs the calls
    token: bytes = dataclasses.field(repr=False)  # what a client has to show
    describe: Callable[[], bytes]  # what the server is, as a protobuf message
    hand_over: Callable[[TcpSocket, str, bytes], None]  # a client that wants something else, its host, what it has said


class GrpcConnection(ServedConnection):
    """Whose client has begun, or is about to begin, one stream."""

    def __init__(
        self,
        sock: TcpSocket,
        peer: tuple[str, int],
        poller: Poller,
        loop_thread: int,
        service: GrpcService,
    ) -> None:
        super().__init__(sock.fileno(), loop_thread)
        self._socket = sock
        self._host, port = peer
        self._address = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self._poller = poller
        self._service = service
        self._raw = b""  # what came before the request
        self._said_hello = False  # and the handshake is done
        self._http2 = Http2Service()
        self._reader = FrameReader(sock, self._http2, "the client")
        self._sender = AnswerSender(sock, self._http2, poller, self._resume)
        self._asked = 0  # calls

    @property
    def is_congested(self) -> bool:
        return self._sender.is_congested

    # -- reading, by the event loop ---------------------------------------------------------------------------

    def read_greeting(self) -> bool:
        if not self._said_hello:
            if not self._socket.handshake():
                return True
            self._said_hello = True
            self._socket.send([Http2Service.hello])  # gRPC's clients say nothing before they have heard this
        data = self._reader.receive()
        if not data or self._sender.is_over:
            return True
        known = len(self._raw)
        self._raw += data
        if len(self._raw) >= len(PREFACE) and self._raw.startswith(PREFACE):
            return self._read_request(self._raw[max(known, len(PREFACE)) :])
        if not PREFACE.startswith(self._raw):
            raise ConnectionResetError("no client of gRPC")
        return True

    def _read_request(self, data: bytes) -> bool:
        """Read on until there is a request. False when it is for somebody else."""
        try:
            pieces = self._http2.feed(data)
        except ProtocolError:  # whether it is an error is for those to say who understand all of HTTP/2
            return self._give_away()
        request = self._http2.request
        if request is None:
            return len(self._raw) <= _MAX_RAW or self._give_away()
        path = request.get(":path")
        if path not in {_CONNECT, _DESCRIBE}:
            return self._give_away()
        if not hmac.compare_digest(request.get(TOKEN_KEY, "").encode(), self._service.token):
            raise Unauthenticated("missing or wrong token")
        self._raw = b""
        self._http2.accept()
        if path == _DESCRIBE:
            self._sender.put_plain(self._service.describe())
            self._sender.finish(self._http2.trailers(0, ""))
        else:
            self._sender.put_plain(b"")  # tells the client that it was accepted
            peer = Peer(lane="grpc", address=self._address)
            self.session = Session(self._service.dispatcher, peer, self.post, lambda: self.is_congested)
            self._take(self._reader.parse(pieces))
        self.flush()
        return True

    def _give_away(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            self._poller.unregister(self.descriptor)
        self._service.hand_over(self._socket, self._host, self._raw)
        return False

    def read(self) -> None:
        if self._sender.is_over:
            self._reader.receive()
        else:
            self._take(self._reader.read())
            if self._http2.was_reset:
                raise ConnectionResetError("the client gave the stream up")
        if self._sender.pending or self._http2.ended:
            self.flush()

    def _take(self, frames: Sequence[Frame]) -> None:
        self.frames.extend(frames)
        self._asked += sum(frame.kind == Kind.CALL for frame in frames)
        if self._sender.is_congested and self._sender.needs_window and len(self.frames) > _MAX_LEFT:
            raise ConnectionResetError("a client that calls and calls, and takes no answers")

    # -- writing, by any thread -------------------------------------------------------------------------------

    def post(self, frame: Frame) -> None:
        """Send a frame to the client. Answers to the batch that the event loop is at are written with its end."""
        self._sender.put(frame)
        if not self.serving or threading.get_ident() != self.loop_thread:
            self.flush()

    def flush(self) -> None:
        if self._sender.flush() and self._http2.ended and not self._sender.is_over:
            self._finish_if_answered()

    def drain(self) -> None:
        self._sender.has_room()
        self.flush()
        self._sender.update_interest()

    def try_flush(self) -> bool:
        return self._sender.try_flush()

    def _resume(self) -> None:
        if self.session is not None:
            self.session.resume()

    # -- the end ----------------------------------------------------------------------------------------------

    def _finish_if_answered(self) -> None:
        """The client has said all that it has to say."""
        session = self.session
        if session is None or self.frames or self.serving or self._http2.body_left:
            return
        if self._sender.answered >= self._asked and self._sender.finish(self._http2.trailers(0, "")):
            session.closed()
            self.flush()

    def refuse(self, error: Exception) -> bool:
        """Tell the client, and wait until it has gone: an end that comes before it has read would take that from it."""
        status = _UNAUTHENTICATED if isinstance(error, Unauthenticated) else _INVALID_ARGUMENT
        end = self._http2.rejection if self.session is None else self._http2.trailers
        if self._sender.refuse(end(status, str(error))):
            if self.session is not None:
                self.session.closed()
            self.flush()
        return False

    def housekeep(self) -> None:
        if self._sender.is_over and time.monotonic() - self._sender.over_at > _LINGER_S:
            raise ConnectionResetError("the client was told the end, and stays")
        self._socket.check()

    def close(self) -> None:
        if self._sender.close() and self.session is not None:
            self.session.closed()
