"""One connection of the local lane, as the server sees it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Collection

from kourou.courier.lanes.local import socket_file
from kourou.courier.lanes.local.shared_memory import Memory
from kourou.courier.lanes.loop.acceptor import ServedConnection
from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.serving.call_info import Peer
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.courier.serving.session import Session
from kourou.courier.wire.frames import Blocks, Buffer, Frame, FrameParser, pack
from kourou.errors import ProtocolError, Unauthenticated

_READ_BYTES = 64 << 10
_LOOK_EVERY = 256  # answers that are queued, how many bytes they are: counting takes time
_MAX_UNSENT_BYTES = 8 << 20  # answers that a client does not fetch, before its further calls are left unread


class LocalConnection(ServedConnection):
    """A client of this host."""

    def __init__(
        self, main: socket.socket, poller: Poller, loop_thread: int, dispatcher: Dispatcher, token: bytes
    ) -> None:
        main.setblocking(False)
        super().__init__(main.fileno(), loop_thread)
        self.memory: Memory | None = None
        self._main = main
        self._poller = poller
        self._dispatcher = dispatcher
        self._token = token
        self._greeting = b""
        self._side: socket.socket | None = None
        self._parser = FrameParser()
        self._outgoing: deque[Buffer] = deque()
        self._blocks: Blocks | None = None
        self._returns: Collection[object] = ()
        self._unsent = memoryview(b"")
        self._writing = threading.Lock()
        self._interest_lock = threading.Lock()
        self._interest = select.POLLIN
        self._closed = False

    # -- reading, by the event loop -------------------------------------------------------------------------------

    @property
    def needs_flush(self) -> bool:
        """Blocks of the client's shared memory, which it may want to have back."""
        return self.memory is not None and bool(self.memory.returns)

    @property
    def is_congested(self) -> bool:
        return self._interest == select.POLLOUT

    def read_greeting(self) -> bool:
        room = socket_file.GREETING_BYTES - len(self._greeting)
        data, descriptor = socket_file.receive_with_descriptor(self._main, room)
        if descriptor is not None:
            self._take_side(descriptor)
        if not data:
            raise ConnectionResetError("gone before it said who it is")
        self._greeting += data
        if socket_file.check_greeting(self._greeting, self._token):
            self._accept_client()
        return True

    def _take_side(self, descriptor: int) -> None:
        if self._side is not None:
            os.close(descriptor)
            raise ProtocolError("a greeting with two descriptors")
        try:
            self._side = socket.socket(fileno=descriptor)
        except OSError as error:
            os.close(descriptor)
            raise ProtocolError("a greeting with what is no socket") from error

    def _accept_client(self) -> None:
        if self._side is None or self._side.family != socket.AF_UNIX:
            raise ProtocolError("a greeting without the socket for descriptors")
        self._side.setblocking(False)
        self._main.send(socket_file.WELCOME)
        self.memory = Memory(self._side, self._outgoing, _leave_to_watchdog)
        self._blocks, self._returns = self.memory.arena, self.memory.returns
        self._parser = FrameParser(self.memory.resolve, control=self.memory.control)
        process, _, _ = socket_file.peer(self._main)
        peer = Peer(lane="local", address=f"pid:{process}")
        self.session = Session(self._dispatcher, peer, self.post, lambda: self.is_congested)

    def read(self) -> None:
        parser = self._parser
        try:
            if not parser.filling:
                data = self._main.recv(_READ_BYTES)
                count = len(data)
                frames = parser.feed(data)
            else:
                count = self._main.recv_into(parser.sink)
                frames = parser.filled(count) if count else []
        except BlockingIOError:
            return
        if not count:
            raise ConnectionResetError("the client closed the connection")
        self.frames.extend(frames)

    # -- writing, by any thread -------------------------------------------------------------------------------

    def post(self, frame: Frame) -> None:
        """Send a frame to the client. Answers to the batch that the event loop is at are written with its end."""
        parts = pack(frame, self._blocks)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        queue = self._outgoing
        if self.serving and threading.get_ident() == self.loop_thread:
            queue.append(data)
            return
        if not queue and not self._returns and self._writing.acquire(False):
            try:
                if self._unsent:
                    queue.append(data)
                else:  # the common case: nothing to take along
                    self._write(data)
            finally:
                self._writing.release()
        else:
            queue.append(data)
        if queue:
            self.flush()

    def flush(self) -> None:
        outgoing = self._outgoing
        while outgoing or self._returns:
            if self._unsent:  # the event loop goes on when there is room
                if self._interest == select.POLLIN or not len(outgoing) % _LOOK_EVERY:
                    self._update_interest()
                return
            if not self._writing.acquire(False):
                return  # whoever writes takes it along
            try:
                if not self._unsent:
                    self._write()
            finally:
                self._writing.release()

    def drain(self) -> None:
        with self._writing:
            if self._unsent:
                self._write()
        self.flush()
        if self.session is not None and not self.is_congested:
            self.session.resume()

    def housekeep(self) -> None:
        """Give back unused shared memory."""
        if self.memory is not None:
            self.memory.trim()
            self.flush()

    def refuse(self, error: Exception) -> bool:
        if isinstance(error, Unauthenticated):
            socket_file.refuse(self._main)
        return True

    def try_flush(self) -> bool:
        """Answers are small, and their bulk is where the client finds it: one attempt is enough."""
        self.flush()
        return True

    def close(self) -> None:
        if self._closed:
            return
        with self._interest_lock:
            self._closed = True
            with contextlib.suppress(OSError, ValueError):
                self._poller.unregister(self._main.fileno())
        with self._writing:
            self._main.close()
            self._outgoing.clear()
            if self.memory is not None:
                self.memory.close()
            elif self._side is not None:
                self._side.close()
        if self.session is not None:
            self.session.closed()

    def _write(self, data: Buffer | None = None) -> None:
        """With the writing lock held: write what comes next, and keep the rest for later.

        What fails on the way, for want of memory, ends the connection: answers may be lost that somebody waits for.
        """
        if self._closed:
            self._outgoing.clear()
            self._returns = ()
            return
        assert self.memory is not None  # noqa: S101 - there are frames once the client was let in; for the type checker
        try:
            self._send(data if data is not None else bytes(self._unsent) if self._unsent else self.memory.gather())
        except BaseException:
            with contextlib.suppress(OSError):
                self._main.shutdown(socket.SHUT_RDWR)
            raise

    def _send(self, data: Buffer) -> None:
        try:
            sent = self._main.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone; the event loop will notice when it reads
            sent = len(data)
            self._outgoing.clear()
        if sent < len(data) or self._unsent:
            self._unsent = memoryview(data)[sent:]
            self._update_interest()

    def _update_interest(self) -> None:
        """Ask for room when there is none. While much is unsent, read no further calls: their answers would pile up."""
        with self._interest_lock:  # whoever comes last has seen the latest
            mask = select.POLLIN
            if self._unsent:
                queued = len(self._unsent) + sum(map(len, list(self._outgoing)))
                mask = select.POLLOUT if queued > _MAX_UNSENT_BYTES else select.POLLIN | select.POLLOUT
            if mask != self._interest and not self._closed:
                self._interest = mask
                with contextlib.suppress(OSError, ValueError):
                    self._poller.modify(self._main.fileno(), mask)


def _leave_to_watchdog() -> None:
    """Blocks to return go with the next frame, or else the watchdog takes them along."""
