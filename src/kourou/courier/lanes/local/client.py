"""The lane between processes of one host, client side: a UNIX socket for frames, shared memory for bulk.

There is no thread between a caller and the socket: callers write their own calls and read their own answers. While
one thread writes, others only queue; it takes their frames along.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Sequence

from kourou.courier.calling.transport import NotSentError, Receiver, Transport
from kourou.courier.core.endpoint import Endpoint
from kourou.courier.lanes.busy_wait import BusyWait
from kourou.courier.lanes.local import socket_file
from kourou.courier.lanes.local.shared_memory import Memory
from kourou.courier.wire.frames import Buffer, Frame, FrameParser, pack
from kourou.errors import ServerUnavailable

_DIAL_S = 5.0  # seconds that a server may take to accept, where the caller gave no deadline
_READ_BYTES = 64 << 10
_GATHER_FRAMES = 8  # queued at most: makes a write cheap for each, and the server begins while the rest is made
_SMALL_BYTES = 4 << 10  # a larger frame is worth a write of its own
_CLOSE_S = 0.5  # for another thread to see that what it writes to is closed
_POLL_MS = 100  # while the socket is full: how often to see whether the connection was closed meanwhile

_main_thread = threading.main_thread().ident


class LocalTransport(Transport):
    """Two sockets and the memory that both ends share."""

    lane = "local"

    def __init__(self, main: socket.socket, side: socket.socket) -> None:
        self._main = main
        self._outgoing: deque[Buffer] = deque()
        self._writing = threading.Lock()
        self._memory = Memory(side, self._outgoing, self._returned)
        self._returns = self._memory.returns
        self._parser = FrameParser(self._memory.resolve, control=self._memory.control)
        self._readable = select.poll()
        self._readable.register(main, select.POLLIN)
        self._busy_wait = BusyWait(self._readable.poll)
        self._receiver: Receiver | None = None
        self._waits = 0  # the thread that writes, while it waits for room
        self._closed = False

    @property
    def descriptors(self) -> Sequence[int]:
        return (self._main.fileno(),)

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def send(self, frame: Frame, *, caller_waits: bool = False, may_gather: bool = False) -> None:
        del caller_waits  # the caller's thread writes in any case
        parts = pack(frame, self._memory.arena)
        if len(parts) > 1:
            self._write_through(parts)
            return
        part = parts[0]
        queue = self._outgoing
        if may_gather and len(queue) < _GATHER_FRAMES and len(part) <= _SMALL_BYTES:
            queue.append(part)
            return
        if not queue and not self._returns and self._writing.acquire(False):
            try:  # the common case: nothing to take along
                self._write(part)
            finally:
                self._writing.release()
        else:
            queue.append(part)
        if queue:
            self.flush()

    def flush(self) -> None:
        while self._outgoing or self._returns:
            if not self._writing.acquire(blocking=False):
                return  # whoever writes takes it along
            try:
                self._write()
            finally:
                self._writing.release()

    def poll(self, timeout_s: float | None) -> bool:
        if timeout_s != 0 and self._busy_wait.poll():
            return True
        if timeout_s is None and threading.get_ident() != _main_thread:
            return True  # nothing can interrupt this thread, so it may block in ``read``
        return bool(self._readable.poll(None if timeout_s is None else timeout_s * 1e3))

    def read(self) -> Sequence[Frame]:
        parser = self._parser
        if not parser.filling:
            data = self._main.recv(_READ_BYTES)
            if data:
                return parser.feed(data)
        else:
            count = self._main.recv_into(parser.sink)
            if count:
                return parser.filled(count)
        raise ConnectionResetError("the server closed the connection")

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._shut_down()
        if self._waits == threading.get_ident():  # then the lock is this thread's, and what it writes will fail
            self._memory.close()
        else:  # a thread that writes fails at once, unless it is this one, further down its stack
            is_free = self._writing.acquire(timeout=_CLOSE_S)
            self._memory.close()
            if is_free:
                self._writing.release()
        self._main.close()

    def _shut_down(self) -> None:
        with contextlib.suppress(OSError):
            self._main.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads

    # -- writing ----------------------------------------------------------------------------------------------

    def _write_through(self, parts: Sequence[Buffer]) -> None:
        """Write a frame whose bulk found no place in shared memory. It returns when all of it is on its way."""
        with self._writing:
            while self._outgoing:
                self._write()
            self._write(*parts)

    def _write(self, *parts: Buffer) -> None:
        """With the writing lock held: write these, or what is queued.

        Ctrl-C on the way ends the connection: what follows would be read as the rest of a frame, and calls that were
        taken from the queue would never be answered.
        """
        try:
            self._send(parts[0] if parts else self._memory.gather())
            try:
                for part in parts[1:]:
                    self._send(part)
            except NotSentError as error:
                raise ConnectionResetError(*error.args) from error
        except BaseException:
            self._shut_down()
            raise

    def _send(self, data: Buffer) -> None:
        try:
            sent = self._main.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except ConnectionError as error:
            raise NotSentError(*error.args) from error
        if sent == len(data):
            return
        view = memoryview(data)[sent:]
        while view:
            self._wait_for_room()
            with contextlib.suppress(BlockingIOError):
                view = view[self._main.send(view, socket.MSG_DONTWAIT) :]

    def _wait_for_room(self) -> None:
        """The server does not keep up. Take in its answers meanwhile: it may be waiting for us to do so."""
        poller = select.poll()
        poller.register(self._main, select.POLLOUT | select.POLLIN)
        events = poller.poll(_POLL_MS)
        if self._closed:
            raise ConnectionResetError("the connection was closed")
        if events and events[0][1] & ~select.POLLOUT and self._receiver is not None:
            self._waits = threading.get_ident()
            try:
                self._receiver.read_available()
            finally:
                self._waits = 0
            if self._closed:
                raise ConnectionResetError("the connection broke")

    def _returned(self) -> None:
        """There are blocks to return: with the next frame, or else by the background thread."""
        if self._receiver is not None:
            self._receiver.wake_background()


def _forked() -> None:
    global _main_thread  # noqa: PLW0603 - in a child of fork another thread is the main one
    _main_thread = threading.main_thread().ident


os.register_at_fork(after_in_child=_forked)


def dial(endpoint: Endpoint, token: str, timeout_s: float | None) -> LocalTransport:
    """Connect.

    Raises:
        ServerUnavailable: nothing answers there.
        Unauthenticated: the token is wrong, or the server is another user's.
    """
    if endpoint.local is None:
        raise ServerUnavailable(f"the server at {endpoint.grpc} has no local lane")
    main, side = socket_file.greet(endpoint.local, token, _DIAL_S if timeout_s is None else max(timeout_s, 1e-3))
    return LocalTransport(main, side)
