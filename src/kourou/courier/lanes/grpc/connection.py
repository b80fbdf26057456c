"""One client of the gRPC lane, as the server sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from kourou.courier.core.protocol import SERVICE, TOKEN_KEY
from kourou.courier.lanes.http2.framing import PREFACE
from kourou.courier.lanes.http2.packet_writer import PacketWriter
from kourou.courier.lanes.http2.packets import PacketReader
from kourou.courier.lanes.http2.server import Http2Service
from kourou.courier.lanes.http2.tcp import TcpSocket
from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.serving.call_info import Peer
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.courier.serving.session import Session
from kourou.courier.wire.frames import Buffer, Frame, FrameParser, Kind, pack
from kourou.errors import ProtocolError, Unauthenticated

__all__ = ["GrpcConnection", "GrpcService"]

_CONNECT, _DESCRIBE = f"/{SERVICE}/Connect", f"/{SERVICE}/Describe"
_READ_BYTES = 64 << 10
_DIRECT_BYTES = 16 << 10  # bulk of which at least so much is to come is read to where it belongs
_MAX_RAW = 64 << 10  # bytes before a request
_MAX_UNREAD_ANSWERS = 8 << 20  # bytes of answers that a client does not take, before no further call of it begins
_LOOK_EVERY = 256  # answers that are queued, how many bytes they are: counting takes time
_STALLED_S, _STALLED_BYTES = 0.02, 1 << 20  # a client that takes less than that in so long is slow
_LONGEST_S = 0.25  # that a thread writes bulk: others may need it
_MAX_LEFT = 1000  # calls that a client may make while it grants no window for answers
_WINDOW_POLL_S = 5e-4
_LINGER_S = 10.0  # how long a client that was told the end may take to go
_LAST = frozenset({Kind.RESULT, Kind.FAILURE, Kind.END})  # one of them for each call
_INVALID_ARGUMENT, _UNAUTHENTICATED = 3, 16  # statuses of gRPC


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrpcService:
    """What a server has for its clients."""

    dispatcher: Dispatcher  # runs the calls
    token: bytes = dataclasses.field(repr=False)  # what a client has to show
    describe: Callable[[], bytes]  # what the server is, as a protobuf message
    hand_over: Callable[[TcpSocket, str, bytes], None]  # a client that wants something else, its host, what it has said


class GrpcConnection:
    """See ``kourou.courier.lanes.loop.acceptor.ServedConnection``.

    ``sock`` is the connection, ``peer`` the client's host and port, ``poller`` where the event loop waits for it.
    """

    def __init__(
        self,
        sock: TcpSocket,
        peer: tuple[str, int],
        poller: Poller,
        loop_thread: int,
        service: GrpcService,
    ) -> None:
        self.descriptor = sock.fileno()
        self.loop_thread = loop_thread
        self.serving = False
        self.frames: deque[Frame] = deque()
        self.session: Session | None = None
        self._over_at = 0.0
        self._socket = sock
        self._host, port = peer
        self._address = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self._poller = poller
        self._service = service
        self._raw = b""  # what a stranger has said
        self._met = False  # the handshake is done, and we have said hello
        self._http2 = Http2Service()
        self._packets = PacketReader()
        self._parser = FrameParser()
        self._writer = PacketWriter(sock, self._http2)
        self._writing = threading.Lock()
        self._asked = self._answered = 0  # calls
        self._state = threading.Lock()  # for the next five, and the last
        self._is_full = False  # the event loop will hear when it is not
        self._needs_window = False  # the client has to grant a window
        self._is_congested = False
        self._interest = select.POLLIN
        self._over = False  # there is nothing more to read or to answer
        self._last_words: bytes | None = None  # for a client that is refused
        self._closed = False

    @property
    def needs_flush(self) -> bool:
        """See ``ServedConnection``: there is always somebody."""
        return False

    @property
    def is_congested(self) -> bool:
        """See ``ServedConnection``."""
        return self._is_congested

    # -- reading, by the event loop -------------------------------------------------------------------------------

    def read_greeting(self) -> bool:
        """See ``ServedConnection``."""
        if not self._met:
            if not self._socket.handshake():
                return True
            self._met = True
            self._socket.send([Http2Service.hello])  # gRPC's clients say nothing before they have heard this
        data = self._receive()
        if not data or self._over:
            return True
        known = len(self._raw)
        self._raw += data
        if len(self._raw) >= len(PREFACE) and self._raw.startswith(PREFACE):
            return self._listen(self._raw[max(known, len(PREFACE)) :])
        if not PREFACE.startswith(self._raw):
            raise ConnectionResetError("no client of gRPC")
        return True

    def _listen(self, data: bytes) -> bool:
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
            self._describe()
            return True
        self._writer.put_plain(b"")  # tells the client that it was accepted
        peer = Peer(lane="grpc", address=self._address)
        self.session = Session(self._service.dispatcher, peer, self.post, lambda: self.is_congested)
        self._take(pieces)
        self.flush()
        return True

    def _describe(self) -> None:
        """Tell a client what it has come to, which is all that it wants."""
        self._over, self._over_at = True, time.monotonic()
        self._writer.put_plain(self._service.describe())
        self._writer.finish(self._http2.trailers(0, ""))
        self.flush()

    def _give_away(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            self._poller.unregister(self.descriptor)
        self._service.hand_over(self._socket, self._host, self._raw)
        return False

    def read(self) -> None:
        """See ``ServedConnection``."""
        parser, http2 = self._parser, self._http2
        room = min(http2.body_left, self._packets.left, len(parser.sink)) if parser.filling and not self._over else 0
        if room >= _DIRECT_BYTES:
            self._read_into(parser.sink[:room])
            return
        data = self._receive()
        if data and not self._over:
            self._take(http2.feed(data))
            if http2.was_reset:
                raise ConnectionResetError("the client gave the stream up")
        if self._writer.pending or http2.ended:
            self.flush()

    def _receive(self) -> bytes:
        """What is there.

        Raises:
            ConnectionResetError: the end.
        """
        data = self._socket.receive(_READ_BYTES)
        if data is None:
            return b""
        if not data:
            raise ConnectionResetError("the client closed the connection")
        while self._socket.has_buffered:
            data += self._socket.receive(_READ_BYTES) or b""
        return data

    def _take(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            for contents in self._packets.feed(piece):
                self._note(self._parser.feed(contents))

    def _note(self, frames: Sequence[Frame]) -> None:
        self.frames.extend(frames)
        self._asked += sum(frame.kind == Kind.CALL for frame in frames)
        if self._is_congested and self._needs_window and len(self.frames) > _MAX_LEFT:
            raise ConnectionResetError("a client that calls and calls, and takes no answers")

    def _read_into(self, sink: memoryview) -> None:
        count = self._socket.receive_into(sink)
        if count is None:
            return
        if not count:
            raise ConnectionResetError("the client closed the connection")
        self._http2.consumed(count)
        self._packets.consumed(count)
        self._note(self._parser.filled(count))
        if self._http2.ended:
            self.flush()

    # -- writing, by any thread -------------------------------------------------------------------------------

    def post(self, frame: Frame) -> None:
        """Send a frame to the client. Answers to the batch that the event loop is at are written with its end."""
        if self._over:
            return
        parts = pack(frame)
        if len(parts) > 1:
            self._post_bulk(parts)
        else:
            self._writer.queue.append(parts[0])
        if frame.kind in _LAST:
            with self._state:
                self._answered += 1
        if not self.serving or threading.get_ident() != self.loop_thread:
            self.flush()

    def flush(self) -> None:
        """See ``ServedConnection``."""
        while (self._writer.pending or self._last_words) and not self._is_full and not self._closed:
            if not self._writing.acquire(blocking=False):
                return  # whoever writes takes it along
            try:
                self._push()
            finally:
                self._writing.release()
            if self._needs_window and self._writer.needs_window:  # else a thread that found us at it has granted it
                break
        if self._is_full or self._needs_window or self._is_congested:
            if self._interest == select.POLLIN or not len(self._writer.queue) % _LOOK_EVERY:
                self._update_interest()
        elif self._http2.ended and not self._over:
            self._finish_if_answered()

    def drain(self) -> None:
        """See ``ServedConnection``."""
        self._is_full = False
        self.flush()
        self._update_interest()

    def _push(self) -> None:
        """With the writing lock held: send what there is."""
        writer = self._writer
        if writer.torn:  # a thread was interrupted while it wrote: what the client would read makes no sense
            self._socket.shut()
            writer.discard()
        if self._last_words is not None:
            writer.end(self._last_words)
            self._last_words = None
        self._needs_window = False
        try:
            while writer.pending and not self._closed:
                if writer.send_some():
                    self._is_full = True
                    break
                if writer.needs_window:
                    self._needs_window = True
                    break
        except OSError:  # the client is gone; the event loop will notice when it reads
            writer.discard()

    def _post_bulk(self, parts: Sequence[Buffer]) -> None:
        """Send a frame whose memory may change when this returns."""
        writer = self._writer
        with self._writing:
            if self._closed or self._over:
                return
            try:
                writer.put(parts)
                self._push_on()
            except BaseException:  # a thread that is told to stop: another one sends the rest
                writer.copy_unsent()
                raise

    def _push_on(self) -> None:
        """With the writing lock held: send until all of it is on its way; copy what a slow client does not take."""
        writer = self._writer
        begun = since = time.monotonic()
        sent = writer.sent
        while True:
            self._push()
            if not writer.pending or self._closed:
                return
            now = time.monotonic()
            if writer.sent - sent >= _STALLED_BYTES and now - begun < _LONGEST_S:
                since, sent = now, writer.sent
            elif self._over or now - since > _STALLED_S:
                writer.copy_unsent()
                return
            self._wait()

    def _wait(self) -> None:
        """For room, but not for long."""
        if self._needs_window:
            time.sleep(_WINDOW_POLL_S)  # the event loop reads that it was granted
            return
        poller = select.poll()
        with contextlib.suppress(ValueError):  # closed by another thread
            poller.register(self.descriptor, select.POLLOUT)
            poller.poll(_STALLED_S * 1e3)
        self._is_full = False

    def _update_interest(self) -> None:
        """Ask for room when there is none. While much is unsent, no further call begins: answers would pile up."""
        with self._state:  # whoever comes last has seen the latest
            was_congested = self._is_congested
            waits = self._is_full or self._needs_window
            self._is_congested = waits and self._writer.size > _MAX_UNREAD_ANSWERS
            mask = select.POLLIN
            if self._is_full:
                mask = select.POLLOUT if self._is_congested else select.POLLIN | select.POLLOUT
            elif was_congested and not self._is_congested:
                mask = select.POLLIN | select.POLLOUT  # the event loop shall look at the calls that it has left
            if mask != self._interest and not self._closed:
                self._interest = mask
                with contextlib.suppress(OSError, ValueError):
                    self._poller.modify(self._socket.fileno(), mask)
        if was_congested and not self._is_congested and self.session is not None:
            self.session.resume()

    # -- the end ----------------------------------------------------------------------------------------------

    def _finish_if_answered(self) -> None:
        """The client has said all that it has to say."""
        session = self.session
        if session is None or self.frames or self.serving or self._http2.body_left or self._answered < self._asked:
            return
        with self._state:
            if self._over:
                return
            self._over = True
        self._over_at = time.monotonic()
        session.closed()
        self._writer.finish(self._http2.trailers(0, ""))
        self.flush()

    def refuse(self, error: Exception) -> bool:
        """Tell the client, and wait until it has gone: an end that comes before it has read would take that from it."""
        status = _UNAUTHENTICATED if isinstance(error, Unauthenticated) else _INVALID_ARGUMENT
        with self._state:
            if self._over:
                return False
            self._over = True
        self._over_at = time.monotonic()
        if self.session is None:
            self._last_words = self._http2.rejection(status, str(error))
        else:
            self.session.closed()
            self._last_words = self._http2.trailers(status, str(error))
        self.flush()
        return False

    def housekeep(self) -> None:
        """See ``ServedConnection``."""
        if self._over and time.monotonic() - self._over_at > _LINGER_S:
            raise ConnectionResetError("the client was told the end, and stays")
        self._socket.check()

    def try_flush(self) -> bool:
        """See ``ServedConnection``."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            self._push()
        finally:
            self._writing.release()
        return not self._writer.pending or self._needs_window  # nobody reads any more that a window was granted

    def close(self) -> None:
        """See ``ServedConnection``."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError, ValueError):
                self._poller.unregister(self.descriptor)
        self._socket.shut()  # wakes a thread that waits for room
        with self._writing:
            self._socket.close()
        if self.session is not None:
            self.session.closed()
