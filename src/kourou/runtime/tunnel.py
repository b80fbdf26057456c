"""Connections that travel as messages: to a host's nodes the launcher's coordinator is a UNIX socket of their own host.

So the coordinator listens on the launcher's loopback alone, whatever lies between: a jump host, a translation of
addresses, a firewall. It is for the control plane; bulk goes from node to node.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["Tunnel"]

_PIECE_BYTES = 1 << 16


class Tunnel:
    """One end: its connections, and the thread that reads them. Its owner closes it.

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
        self._connections: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        if entrance is not None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(entrance))
            self._listener.listen(socket.SOMAXCONN)
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._thread = threading.Thread(target=self._loop, name="kourou-tunnel", daemon=True)
        self._thread.start()

    def receive(self, operation: str, number: int, data: bytes) -> None:
        """What the other end sent."""
        if operation == "open":
            self._dial(number)
            return
        with self._lock:
            connection = self._connections.get(number)
        if connection is None:
            return  # it ended here meanwhile, and the other end is being told
        if operation == "data":
            with contextlib.suppress(OSError):  # the reader finds out
                connection.sendall(data)
        else:
            with contextlib.suppress(OSError):  # wakes the reader, which lets go of it
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        with contextlib.suppress(OSError):
            self._wake_w.send(b"\0")
        self._thread.join()
        self._wake_w.close()

    def _dial(self, number: int) -> None:
        try:
            assert self._exit_to is not None  # noqa: S101 - only an entrance opens
            self._add(number, socket.create_connection(self._exit_to))
        except OSError:
            self._send("end", number, b"")

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - it is what became readable
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            number = next(self._numbers)
            self._add(number, connection)  # first, since answers may come at once
            self._send("open", number, b"")

    def _add(self, number: int, connection: socket.socket) -> None:
        with self._lock:
            self._connections[number] = connection
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._pass_on(number, connection))

    def _pass_on(self, number: int, connection: socket.socket) -> None:
        try:
            data = connection.recv(_PIECE_BYTES)
        except OSError:
            data = b""
        if data:
            self._send("data", number, data)
            return
        self._selector.unregister(connection)
        with self._lock:
            self._connections.pop(number, None)
        connection.close()
        self._send("end", number, b"")

    def _loop(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake_r:
                    self._end()
                    return
                key.data()

    def _end(self) -> None:
        self._selector.close()
        with self._lock:
            connections, self._connections = list(self._connections.values()), {}
        for connection in [*connections, *([self._listener] if self._listener else []), self._wake_r]:
            connection.close()
