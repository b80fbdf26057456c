"""The lane within one process: frames are handed over as they are, and bulk is copied once.

Nothing is shared between caller and handler, just as on the other lanes: a handler that changes its argument does
not change the caller's. A handler that was always fast runs in the thread of a caller that would only wait for it.
"""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Iterable, Sequence

from kourou import threads
from kourou.courier.calling.transport import NotSentError, Receiver, Transport
from kourou.courier.core.endpoint import Endpoint
from kourou.courier.serving.call_info import Peer
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.courier.serving.execution import enqueue, run
from kourou.courier.serving.session import Session
from kourou.courier.wire.copying import copied
from kourou.courier.wire.frames import Frame
from kourou.errors import ServerUnavailable, Unauthenticated


class InprocListener:
    """Makes a server known to the clients of its own process."""

    def __init__(self, dispatcher: Dispatcher, endpoint: Endpoint, token: str) -> None:
        self.dispatcher = dispatcher
        self.endpoint = endpoint
        self.token = token
        self._transports: set[InprocTransport] = set()
        self._stopped = False
        self._lock = threading.RLock()  # held for a moment, in which a signal handler may come
        _listeners[endpoint.server_id] = self

    def stop(self) -> None:
        """Take no more connections, and end those that are."""
        _listeners.pop(self.endpoint.server_id, None)
        with self._lock:
            self._stopped = True
            transports, self._transports = self._transports, set()
        if self.dispatcher.leaves_unanswered:  # to find out why may be to wait until whoever calls this has ended
            threads.start(threading.Thread(target=_break, args=(transports,), name="kourou-inproc-end", daemon=True))
        else:
            _break(transports)

    def connected(self, transport: InprocTransport) -> None:
        """A client came; maybe it had found the server before that stopped."""
        with self._lock:
            if not self._stopped:
                self._transports.add(transport)
                return
        transport.broken(ConnectionResetError("the server stopped"))

    def disconnected(self, transport: InprocTransport) -> None:
        """A client left."""
        with self._lock:
            self._transports.discard(transport)


def _break(transports: Iterable[InprocTransport]) -> None:
    for transport in transports:
        transport.broken(ConnectionResetError("the server stopped"))


class InprocTransport(Transport):
    """One that pushes, and never puts anything off."""

    lane = "inproc"
    pulls = False

    def __init__(self, listener: InprocListener, *, interrupts: bool) -> None:
        self._listener = listener
        self._interrupts = interrupts
        self._session = Session(listener.dispatcher, Peer(lane=self.lane, address=f"pid:{os.getpid()}"), self._answer)
        self._receiver: Receiver | None = None
        self._closed = False

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._listener.connected(self)

    def send(self, frame: Frame, *, caller_waits: bool = False, may_gather: bool = False) -> None:
        del may_gather  # there is nothing to save
        if self._closed:
            raise NotSentError("the connection is closed")
        call = self._session.accept(_owned(frame))
        if call is None:
            return
        pool = self._session.handlers.pool
        if self._interrupts:  # this thread may have a slot of the pool, and has been interrupted in it
            run(call, borrowed=True)
        elif caller_waits and not frame.number and call.method.trusted and pool.try_enter():
            try:
                run(call, borrowed=True)
            finally:
                pool.leave()
        else:
            enqueue(call)

    def poll(self, timeout_s: float | None) -> bool:
        del timeout_s  # it pushes: there is never anything to read
        return False

    def read(self) -> Sequence[Frame]:
        return ()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._listener.disconnected(self)
            self._session.closed()

    def broken(self, error: Exception) -> None:
        """The server stopped."""
        if self._receiver is not None:
            self._receiver.end(error)

    def _answer(self, frame: Frame) -> None:
        if self._receiver is not None:
            self._receiver.deliver((_owned(frame),))


def dial(endpoint: Endpoint, token: str, *, interrupts: bool) -> InprocTransport:
    """Connect to a server of this process.

    Args:
        endpoint: where it listens.
        token: its secret.
        interrupts: for code that has interrupted its own thread: handlers run in that thread at once.

    Raises:
        ServerUnavailable: it is not (or not any more) in this process.
        Unauthenticated: the token is wrong.
    """
    listener = _listeners.get(endpoint.server_id)
    if listener is None:
        raise ServerUnavailable(f"there is no server at {endpoint.grpc} in this process")
    if not hmac.compare_digest(listener.token.encode(), token.encode()):
        raise Unauthenticated(f"the server at {endpoint.grpc} expects another token")
    return InprocTransport(listener, interrupts=interrupts)


def endpoint_at(address: str) -> Endpoint | None:
    """The endpoint of the server of this process that listens at an address, if there is one."""
    wanted = address.replace("localhost:", "127.0.0.1:")
    return next((one.endpoint for one in list(_listeners.values()) if one.endpoint.grpc == wanted), None)


def _owned(frame: Frame) -> Frame:
    """The frame with memory of its own, so that both sides may change what they have."""
    body, buffers = frame.body, frame.buffers
    if type(body) is bytes and not buffers:
        return frame
    joined = b"".join(body) if isinstance(body, tuple) else bytes(body)
    return frame._replace(body=joined, buffers=[copied(buffer) for buffer in buffers])


_listeners: dict[str, InprocListener] = {}  # by server_id

os.register_at_fork(after_in_child=_listeners.clear)  # a server's threads stay behind in the parent
