"""Connections that travel as messages: to a host's nodes the launcher's coordinator is a UNIX socket of their own host.

So the coordinator listens on the launcher's loopback alone, whatever lies between: a jump host, a translation of
addresses, a firewall. It is for the control plane; bulk goes from node to node.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from kourou.courier.lanes.ports import is_itself

__all__ = ["Tunnel"]

_PIECE_BYTES = 1 << 16
_MOST_WAITING_BYTES = 64 << 20  # for one connection: it has windows of its own, which are far smaller


@dataclasses.dataclass(eq=False)
class _Connection:
    number: int
    socket: socket.socket
    outbox: deque[bytes] = dataclasses.field(default_factory=deque)
    waiting_bytes: int = 0
    ends: bool = False
    """The other end hung up: this one does when it has taken what waits for it."""


class Tunnel:
    """One end: its connections, and the thread that reads and writes them. Its owner closes it.

    What a connection does not take yet waits for it; neither the others nor who calls :meth:`receive` wait as well.

    Args:
        send: passes ``(operation, number of the connection, data)`` to the other end, whose :meth:`receive` takes it.
        entrance: path of a UNIX socket to listen on; a connection to it begins one at the other end.
        exit_to: ``(host, port)`` that connections of the other end lead to.
    """

    def __init__(
        self,
        send: Callable[[str, int, bytes], None],
        *,
        entrance: Path | None = None,
        exit_to: tuple[str, int] | None = None,
    ) -> None:
        self._send = send
        self._exit_to = exit_to
        self._numbers = itertools.count(1)
        self._connections: dict[int, _Connection] = {}
        self._paused = False
        self._closing = False
        self._commands: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        for end in (self._wake_r, self._wake_w):
            end.setblocking(False)
        self._selector.register(self._wake_r, selectors.EVENT_READ, lambda _: self._carry_out())
        self._listener: socket.socket | None = None
        if entrance is not None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(entrance))
            self._listener.listen(socket.SOMAXCONN)
            self._selector.register(self._listener, selectors.EVENT_READ, lambda _: self._accept())
        self._thread = threading.Thread(target=self._loop, name="kourou-tunnel", daemon=True)
        self._thread.start()

    def receive(self, operation: str, number: int, data: bytes) -> None:
        """What the other end sent; returns at once."""
        self._post(lambda: self._take(operation, number, data))

    def pause(self, paused: bool) -> None:  # noqa: FBT001 - a callback of Wire's
        """Read no more from the connections, since what was read waits to be sent; or read on. Returns at once."""
        self._post(lambda: self._pause(paused=paused))

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._post(self._end)
        self._thread.join()

    def _post(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        with contextlib.suppress(OSError):  # it is closed, or will look anyway
            self._wake_w.send(b"\0")

    def _carry_out(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_r.recv(4096)
        while self._commands and not self._closing:
            self._commands.popleft()()

    def _loop(self) -> None:
        while not self._closing:
            for key, events in self._selector.select():
                # An earlier event of the same batch may have closed this one's descriptor, and opened it as another.
                if not self._closing and self._selector.get_map().get(key.fd) is key:
                    key.data(events)
        self._selector.close()
        for end in (self._wake_r, self._wake_w, *([self._listener] if self._listener else [])):
            end.close()
        for connection in self._connections.values():
            connection.socket.close()
        self._connections.clear()

    def _end(self) -> None:
        self._closing = True

    def _take(self, operation: str, number: int, data: bytes) -> None:
        if operation == "open":
            assert self._exit_to is not None  # noqa: S101 - only an entrance opens
            opened = socket.socket(socket.AF_INET6 if ":" in self._exit_to[0] else socket.AF_INET)
            opened.setblocking(False)
            opened.connect_ex(self._exit_to)  # one that fails is found when it is read
            if is_itself(opened):
                opened.close()
                self._send("end", number, b"")
            else:
                self._add(number, opened)
        elif (connection := self._connections.get(number)) is None:
            return  # it ended here meanwhile, and the other end is being told
        elif operation == "data":
            connection.outbox.append(data)
            connection.waiting_bytes += len(data)
            self._flush(connection)
        else:
            connection.ends = True
            self._flush(connection)

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - it is what became readable
        with contextlib.suppress(OSError):
            accepted, _ = self._listener.accept()
            accepted.setblocking(False)
            number = next(self._numbers)
            self._send("open", number, b"")
            self._add(number, accepted)

    def _add(self, number: int, opened: socket.socket) -> None:
        connection = self._connections[number] = _Connection(number, opened)
        self._watch(connection)

    def _serve(self, connection: _Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(connection)
        if events & selectors.EVENT_READ and connection.number in self._connections:
            self._pass_on(connection)

    def _pass_on(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._send("data", connection.number, data)
        else:
            self._drop(connection)

    def _flush(self, connection: _Connection) -> None:
        try:
            while connection.outbox:
                sent = connection.socket.send(connection.outbox[0])
                connection.waiting_bytes -= sent
                rest = connection.outbox.popleft()[sent:]
                if rest:
                    connection.outbox.appendleft(rest)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
            return
        if connection.waiting_bytes > _MOST_WAITING_BYTES or (connection.ends and not connection.outbox):
            self._drop(connection)
        else:
            self._watch(connection)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.number]
        self._watch(connection, 0)
        connection.socket.close()
        self._send("end", connection.number, b"")

    def _pause(self, *, paused: bool) -> None:
        self._paused = paused
        for connection in self._connections.values():
            self._watch(connection)

    def _watch(self, connection: _Connection, events: int | None = None) -> None:
        """Let the selector tell of what can be done with a connection now."""
        if events is None:
            events = 0 if self._paused else selectors.EVENT_READ
            events |= selectors.EVENT_WRITE if connection.outbox else 0
        key = self._selector.get_map().get(connection.socket.fileno())
        if events == (key.events if key else 0):
            return
        if key:
            self._selector.unregister(connection.socket)
        if events:
            self._selector.register(connection.socket, events, lambda ready: self._serve(connection, ready))
