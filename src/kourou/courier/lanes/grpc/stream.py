"""One bidirectional gRPC stream with a connection of its own, client side; calls under load share its packets.

It speaks HTTP/2 itself: grpcio's own client has two changes of thread between a caller and the socket, which take
longer than all the rest of a call. Here callers write their own calls and read their own answers, as on the local
lane. While one thread writes, others only queue; it takes their frames along.
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Sequence

from kourou.courier.calling.transport import NotSentError, Receiver
from kourou.courier.lanes.grpc.channel import Channel, status_error
from kourou.courier.lanes.grpc.frame_reader import FrameReader
from kourou.courier.lanes.http2.client import CallEnd
from kourou.courier.lanes.http2.packet_writer import PacketWriter
from kourou.courier.wire.frames import Buffer, Frame, Memory, pack
from kourou.errors import ProtocolError

_GATHER_FRAMES = 32  # queued, while the server is busy with earlier ones; more would let it run dry
_SMALL_BYTES = 4 << 10  # a larger frame is worth a write of its own
_MAX_QUEUED = 1024  # frames that wait for the thread that writes, before their senders wait, too
_POLL_MS = 100  # while the socket is full: how often to see whether the connection was closed meanwhile
_WINDOW_POLL_MS = 2  # while the server grants no window: another thread may read that it does


class GrpcStream:
    """What ``kourou.courier.calling.transport.Transport`` says of its methods holds here, too.

    Raises:
        ServerUnavailable: the server does not answer.
        Unauthenticated: the token is wrong.
    """

    def __init__(self, channel: Channel, memory: Memory | None) -> None:
        self._address = channel.address
        self._socket = channel.socket
        self._http2 = channel.http2
        self._reader = FrameReader(channel.socket, channel.http2, channel.address, memory)
        self._receiver: Receiver | None = None
        self._writing = threading.Lock()
        self._writer = PacketWriter(self._socket, self._http2)
        self._outgoing = self._writer.queue
        self._closed = False
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._await_acceptance(channel)
            undo.pop_all()

    def _await_acceptance(self, channel: Channel) -> None:
        """The server greets, with an empty packet, those whose token is right."""
        while not self._reader.packets.messages:
            if self._http2.end:
                raise status_error(self._http2.end, self._address)
            self._reader.parse(channel.receive())
        channel.clear_timeout()

    def fileno(self) -> int:
        """For ``poll``."""
        return self._socket.fileno()

    @property
    def has_buffered(self) -> bool:
        """Whether ``read`` has something that ``poll`` does not know of."""
        return self._http2.end is not None or self._socket.has_buffered

    @property
    def in_bulk(self) -> bool:
        """Whether ``poll`` waits for a good part of a buffer, which takes its time."""
        return self._reader.in_bulk

    @property
    def can_block(self) -> bool:
        """Whether ``read`` waits when there is nothing."""
        return self._socket.can_block

    @property
    def peer_closed(self) -> bool:
        """See ``Transport``."""
        poller = select.poll()
        try:
            poller.register(self._socket, getattr(select, "POLLRDHUP", 0))
        except ValueError:  # closed on this side
            return True
        return bool(poller.poll(0))

    def start(self, receiver: Receiver) -> None:
        """See ``Transport``."""
        self._receiver = receiver

    def send(self, frame: Frame, *, may_gather: bool = False) -> None:
        """See ``Transport``."""
        if self._closed or self._http2.end:
            raise NotSentError("the connection is closed")
        parts = pack(frame)
        if len(parts) > 1:
            with self._writing:
                self._write_now(parts)
            return
        queue = self._outgoing
        part = parts[0]
        if may_gather and len(queue) < _GATHER_FRAMES and len(part) <= _SMALL_BYTES:
            queue.append(part)
            return
        if queue or not self._writing.acquire(blocking=False):
            queue.append(part)
        else:
            try:
                self._write_now((part,))
            finally:
                self._writing.release()
        if queue:
            self._write(wait=True)

    def ping(self) -> None:
        """Let the server say something, which wakes the thread that reads."""
        self._http2.ping()
        with contextlib.suppress(OSError):  # whoever reads will hear of it
            self._write(wait=True)

    def flush(self) -> None:
        """See ``Transport``."""
        self._write(wait=False)

    def read(self) -> Sequence[Frame]:
        """See ``Transport``."""
        http2 = self._http2
        if http2.end:
            raise self._ended(http2.end)
        frames = self._reader.read()
        if http2.end and not frames:
            raise self._ended(http2.end)
        if http2.replies or self._writer.has_body:
            with contextlib.suppress(OSError):  # what came before is delivered first; then it shows again
                self._write(wait=False)
        return frames

    def check(self) -> None:
        """See ``Transport``."""
        if not self._closed:
            self._socket.check()

    def close(self) -> None:
        """See ``Transport``."""
        self._closed = True
        self._socket.close()

    def _ended(self, end: CallEnd) -> Exception:
        """Only what the server said on purpose is passed on; all else is for the target to explain."""
        error = status_error(end, self._address)
        return error if isinstance(error, ProtocolError) else ConnectionResetError(str(error))

    # -- writing ----------------------------------------------------------------------------------------------

    def _write(self, *, wait: bool) -> None:
        """Write what is queued; all of it if ``wait``."""
        while self._writer.pending:
            crowded = wait and len(self._outgoing) > _MAX_QUEUED
            if not self._writing.acquire(blocking=crowded):
                return  # whoever writes takes it along
            try:
                if not self._push(wait=wait):
                    return
            finally:
                self._writing.release()

    def _write_now(self, parts: Sequence[Buffer]) -> None:
        """With the writing lock held: write what is queued, and then a frame, until all of it is on its way."""
        writer = self._writer
        sent = None
        try:
            self._push(wait=True)
            sent = writer.sent
            writer.put(parts)
            self._push(wait=True)
        except ConnectionError as error:
            if sent is None or writer.sent == sent:
                raise NotSentError(*error.args) from error
            raise
        except BaseException:  # Ctrl-C, most likely: another thread sends the rest, but these buffers may change now
            writer.copy_unsent()
            raise

    def _push(self, *, wait: bool) -> bool:
        """With the writing lock held: write all there is. False if the server takes no more now, unless ``wait``."""
        writer = self._writer
        while writer.pending:
            if writer.torn or self._closed:
                raise ConnectionResetError("the connection is closed, or a thread was interrupted while it wrote")
            is_full = writer.send_some()
            if not is_full and not writer.needs_window:
                continue
            if wait:
                self._wait_for_room(is_full=is_full)
                continue
            if self._receiver is not None:
                self._receiver.wake_background()
            return False
        return True

    def _wait_for_room(self, *, is_full: bool) -> None:
        """The server does not keep up. Take in its answers meanwhile: it may be waiting for us to do so."""
        poller = select.poll()
        try:
            poller.register(self._socket, select.POLLIN | (select.POLLOUT if is_full else 0))
        except ValueError as error:  # a thread that does not write has closed it meanwhile
            raise ConnectionResetError("the connection was closed") from error
        events = poller.poll(_POLL_MS if is_full else _WINDOW_POLL_MS)
        here = self._socket.has_buffered or (events and events[0][1] & ~select.POLLOUT)
        if here and self._receiver is not None:
            self._receiver.read_available()
