"""Connections that travel as messages: to a host's nodes the launcher's coordinator is a UNIX socket of their own host.

So the coordinator listens on the launcher's loopback alone, whatever lies between: a jump host, a translation of
addresses, a firewall. It is for the control plane; bulk goes from node to node.
"""

from __future__ import annotations

import dataclasses
import itertools
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from kourou.runtime.host_agent.loop import LoopThread
from kourou.sockets import is_itself

_PIECE_BYTES = 1 << 16
_AGAIN_S = 0.25  # where no more files can be opened
_MOST_WAITING_BYTES = 64 << 20  # for one connection: it has windows of its own, which are far smaller


@dataclasses.dataclass(eq=False)
class _Connection:
    number: int
    socket: socket.socket
    outbox: deque[bytes] = dataclasses.field(default_factory=deque)
    waiting_bytes: int = 0
    reads: bool = False
    writes: bool = False
    ends: bool = False
    """The other end hung up: this one does when it has taken what waits for it."""


class Tunnel:
    """One end: its connections, which an event loop reads and writes. Its owner closes it.

    What a connection does not take yet waits for it; neither the others nor who calls :meth:`receive` wait as well.

    Args:
        thread: of the loop; it may serve other tunnels, too.
        send: passes ``(operation, number of the connection, data)`` to the other end, whose :meth:`receive` takes it.
        entrance: path of a UNIX socket to listen on; a connection to it begins one at the other end.
        exit_to: ``(host, port)`` that connections of the other end lead to.
    """

    def __init__(
        self,
        thread: LoopThread,
        send: Callable[[str, int, bytes], None],
        *,
        entrance: Path | None = None,
        exit_to: tuple[str, int] | None = None,
    ) -> None:
        self._thread = thread
        self._loop = thread.loop
        self._send = send
        self._exit_to = exit_to
        self._numbers = itertools.count(1)
        self._connections: dict[int, _Connection] = {}
        self._paused = False
        self._closed = False
        self._listener: socket.socket | None = None
        if entrance is not None:
            self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.setblocking(False)
            listener.bind(str(entrance))
            listener.listen(socket.SOMAXCONN)
            thread.post(self._listen)

    def receive(self, operation: str, number: int, data: bytes) -> None:
        """What the other end sent; returns at once."""
        self._thread.post(lambda: self._take(operation, number, data))

    def pause(self, paused: bool) -> None:  # noqa: FBT001 - a callback of Wire's
        """Read no more from the connections, since what was read waits to be sent; or read on. Returns at once."""
        self._thread.post(lambda: self._pause(paused=paused))

    def hang_up(self) -> None:
        """Close all connections, since the way to the other end broke; those who call again get new ones."""
        self._thread.call(self._hang_up)

    def finish(self) -> None:
        """The other end is gone for good: each connection ends once it has taken what waits for it. Returns at once."""
        self._thread.post(self._finish)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        if not self._closed:
            self._thread.call(self._end)

    def _end(self) -> None:
        self._closed = True
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        self._hang_up()

    def _hang_up(self) -> None:
        for connection in self._connections.values():
            self._watch(connection, reads=False, writes=False)
            connection.socket.close()
        self._connections.clear()

    def _finish(self) -> None:
        for connection in list(self._connections.values()):
            connection.ends = True
            self._flush(connection)

    def _take(self, operation: str, number: int, data: bytes) -> None:
        if self._closed:
            return
        if operation == "open":
            assert self._exit_to is not None  # noqa: S101 - only an entrance opens
            opened = _connecting(*self._exit_to)
            if opened is None:
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
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # too many files are open: who calls waits in the queue
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(_AGAIN_S, self._listen)
            return
        accepted.setblocking(False)
        number = next(self._numbers)
        self._send("open", number, b"")
        self._add(number, accepted)

    def _listen(self) -> None:
        if self._listener is not None and not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _add(self, number: int, opened: socket.socket) -> None:
        connection = self._connections[number] = _Connection(number, opened)
        self._watch(connection)

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
        self._watch(connection, reads=False, writes=False)
        connection.socket.close()
        self._send("end", connection.number, b"")

    def _pause(self, *, paused: bool) -> None:
        self._paused = paused
        for connection in self._connections.values():
            self._watch(connection)

    def _watch(self, connection: _Connection, *, reads: bool | None = None, writes: bool | None = None) -> None:
        """Let the loop tell of what can be done with a connection now."""
        reads = not self._paused if reads is None else reads
        writes = bool(connection.outbox) if writes is None else writes
        number = connection.socket.fileno()
        if reads is not connection.reads:
            connection.reads = reads
            if reads:
                self._loop.add_reader(number, self._pass_on, connection)
            else:
                self._loop.remove_reader(number)
        if writes is not connection.writes:
            connection.writes = writes
            if writes:
                self._loop.add_writer(number, self._flush, connection)
            else:
                self._loop.remove_writer(number)


def _connecting(host: str, port: int) -> socket.socket | None:
    """A connection that begins; one that fails is found when it is read. None: it cannot even begin."""
    try:
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError:  # too many files are open
        return None
    opened.setblocking(False)
    opened.connect_ex((host, port))
    if is_itself(opened):
        opened.close()
        return None
    return opened
