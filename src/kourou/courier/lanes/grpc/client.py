"""The lane between hosts, client side: one bidirectional gRPC stream, and a second one for bulk.

Bulk has a TCP connection of its own, from the first large call on, so that small calls need not wait until it is
through. What is large shows before a call is sent, or has shown in the method's last answer.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence

from kourou.courier.calling.transport import Receiver, Transport
from kourou.courier.core.endpoint import Endpoint
from kourou.courier.core.protocol import SERVICE, TOKEN_KEY
from kourou.courier.core.target import Tls
from kourou.courier.lanes.busy_wait import BusyWait
from kourou.courier.lanes.grpc.asking import ask
from kourou.courier.lanes.grpc.channel import Channel
from kourou.courier.lanes.grpc.stream import GrpcStream
from kourou.courier.wire.frames import LAST, Frame, Kind, Memory, payload_size
from kourou.errors import RpcError

_BULK_BYTES = 256 << 10  # of one call or answer: what takes longer on its way than a small call altogether
_MAX_METHODS = 1024  # whose answers are remembered to be large
_BULK_DIAL_S = 2.0  # a server that has just answered; if it does not, bulk goes with the rest
_LONGEST_DESCRIPTION = 64 << 10


class GrpcTransport(Transport):
    """One or two streams."""

    lane = "grpc"
    idle_s = 5.0  # a server that asks for a sign of life waits for some time, see ``grpc_server``

    def __init__(self, stream: GrpcStream, dial: Callable[[], GrpcStream]) -> None:
        self._main = stream
        self._dial = dial
        self._bulk: GrpcStream | None = None
        self._streams: tuple[GrpcStream, ...] = (stream,)
        self._dialling = threading.Lock()
        self._readable = select.poll()
        self._readable.register(stream, select.POLLIN)
        self._busy_wait = BusyWait(self._readable.poll)
        self._ready: list[GrpcStream] = []
        self._methods: dict[int, str] = {}  # of the calls in flight
        self._on_bulk: set[int] = set()  # those of them that have taken the second stream
        self._heavy: set[str] = set()  # methods whose last answer was large
        self._receiver: Receiver | None = None
        self._check_at = 0.0
        self._closed = False

    @property
    def descriptors(self) -> Sequence[int]:
        return [stream.fileno() for stream in self._streams]

    @property
    def has_buffered(self) -> bool:
        return bool(self._ready) or any(stream.has_buffered for stream in self._streams)

    @property
    def peer_closed(self) -> bool:
        return self._main.peer_closed

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._main.start(receiver)
        receiver.wake_background()

    def send(self, frame: Frame, *, caller_waits: bool = False, may_gather: bool = False) -> None:
        del caller_waits  # the caller's thread writes in any case
        if frame.kind == Kind.CALL:
            self._methods[frame.call_id] = frame.method
            heavy = frame.method in self._heavy or _is_large(frame)
            bulk = self._bulk_stream() if heavy else None
            if bulk is not None:
                self._on_bulk.add(frame.call_id)
                bulk.send(frame)
                return
        elif self._bulk is not None and frame.call_id in self._on_bulk:
            self._bulk.send(frame)
            return
        self._main.send(frame, may_gather=may_gather)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def poll(self, timeout_s: float | None) -> bool:
        streams = self._streams
        if not self._ready:
            self._ready = [stream for stream in streams if stream.has_buffered]
        if self._ready:
            return True
        spins = timeout_s != 0 and not any(stream.in_bulk for stream in streams)
        events = self._busy_wait.poll() if spins else []
        if not events:
            if timeout_s is None and len(streams) == 1 and self._main.can_block and not _is_main_thread():
                self._ready = [self._main]
                return True  # nothing can interrupt this thread, so it may block in ``read``
            events = self._readable.poll(None if timeout_s is None else timeout_s * 1e3)
        if not events:
            return False
        descriptors = {descriptor for descriptor, _ in events}
        self._ready = [stream for stream in self._streams if stream.fileno() in descriptors]
        return bool(self._ready)  # not those that were closed meanwhile

    def read(self) -> Sequence[Frame]:
        frames = self._ready.pop(0).read()  # one after the other: none waits for long
        for frame in frames:
            self._learn(frame)
        return frames

    def check(self) -> None:
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + (self.idle_s or 0)
            for stream in self._streams:
                stream.check()

    def close(self) -> None:
        self._closed = True
        for stream in self._streams:
            stream.close()

    def _learn(self, frame: Frame) -> None:
        """Remember which methods have large answers, and forget calls that have theirs."""
        if frame.kind in LAST:
            method = self._methods.pop(frame.call_id, "")
            self._on_bulk.discard(frame.call_id)
        else:
            method = self._methods.get(frame.call_id, "")
        if _is_large(frame):
            if len(self._heavy) >= _MAX_METHODS:
                self._heavy.clear()
            self._heavy.add(method)
        elif frame.kind == Kind.RESULT and self._heavy:
            self._heavy.discard(method)

    def _bulk_stream(self) -> GrpcStream | None:
        """The stream for bulk, made when it is first needed; None if there cannot be one."""
        if self._bulk is not None or self._receiver is None:
            return self._bulk
        with self._dialling:
            if self._bulk is None and not self._closed:
                try:
                    stream = self._dial()
                except RpcError:
                    stream = self._main  # a server with no room for another connection has room for bulk in this one
                else:
                    self._readable.register(stream, select.POLLIN)
                    stream.start(self._receiver)
                    self._streams = (self._main, stream)
                    self._main.ping()  # whoever waits for the first stream only looks up, and waits for both
                self._bulk = stream
                if self._closed:
                    stream.close()
        return self._bulk


def _is_large(frame: Frame) -> bool:
    _, _, _, _, body, buffers = frame
    if not buffers and type(body) is bytes:
        return len(body) >= _BULK_BYTES
    return payload_size(body, buffers) >= _BULK_BYTES


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def dial(
    endpoint: Endpoint, token: str, timeout_s: float | None, tls: Tls | None = None, memory: Memory | None = None
) -> GrpcTransport:
    """Connect, and wait until the server has accepted. ``memory`` is for what comes in bulk.

    Raises:
        ServerUnavailable: nothing answers there.
        Unauthenticated: the token is wrong.
    """

    def connect(within_s: float | None) -> GrpcStream:
        channel = Channel(f"/{SERVICE}/Connect", endpoint.grpc, (TOKEN_KEY, token), within_s, tls)
        return GrpcStream(channel, memory)

    return GrpcTransport(connect(timeout_s), lambda: connect(_BULK_DIAL_S))


def describe(address: str, token: str, timeout_s: float | None, tls: Tls | None = None) -> Endpoint:
    """Ask the server at an address what it is.

    Raises:
        ServerUnavailable: nothing answers there.
        Unauthenticated: the token is wrong.
    """
    from kourou.proto.v1 import courier_pb2  # noqa: PLC0415 - protobuf is needed for nothing else here

    described = ask(
        Channel(f"/{SERVICE}/Describe", address, (TOKEN_KEY, token), timeout_s, tls), b"", _LONGEST_DESCRIPTION
    )
    found = courier_pb2.Description.FromString(described)
    return Endpoint(
        server_id=found.server_id, pid=found.pid, host_id=found.host_id, grpc=address, local=found.local or None
    )
