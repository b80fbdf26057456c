"""Clients that want one of gRPC's standard services are passed on, byte by byte, to the server that has them.

They have been told hello already, and answer that once more than grpcio's server expects: that answer is left out.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time

from kourou.courier.lanes.http2 import ACK, PREFACE, FrameType
from kourou.courier.lanes.tcp import Link

__all__ = ["Relays", "WithoutFirstAnswer"]

_READ_BYTES = 64 << 10
_MOST_WAITING = 1 << 20  # bytes that one end has sent and the other has not taken
_MOST_RELAYS = 256  # at a time: each takes a thread, and three descriptors
_LAST_S = 10.0  # for a client to take what the server has said before it ended
_HEAD = struct.Struct(">IBI")


class WithoutFirstAnswer:
    """Takes the first acknowledgement of settings out of what a client says, from its preface on."""

    def __init__(self) -> None:
        self._pass = len(PREFACE)  # bytes to pass on before the next frame begins
        self._rest = b""
        self._is_out = False

    def feed(self, data: bytes) -> bytes:
        """What is to be passed on now."""
        if self._is_out:
            return data
        data, self._rest = self._rest + data, b""
        position = self._pass
        while position + _HEAD.size <= len(data):
            size, flags, _ = _HEAD.unpack_from(data, position)
            if size & 0xFF == FrameType.SETTINGS and flags & ACK:
                self._is_out = True
                return data[:position] + data[position + _HEAD.size :]
            position += _HEAD.size + (size >> 8)
        known = min(position, len(data))
        self._pass, self._rest = position - known, data[known:]
        return data[:known]


class Relays:
    """Passes connections on, each in a thread of its own, until one of its ends is closed.

    Args:
        server: address of the one that understands them.
    """

    def __init__(self, server: str | tuple[str, int]) -> None:
        self._server = server
        self._clients: set[Link] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def add(self, client: Link, said: bytes) -> None:
        """Pass a connection on, and what it has said so far. It belongs to this object from now on."""
        with self._lock:
            if self._stopped or len(self._clients) >= _MOST_RELAYS:
                client.close()
                return
            self._clients.add(client)
        thread = threading.Thread(target=self._relay, args=(client, said), name="kourou-grpc-relay", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is shutting down
            self._end(client)

    def stop(self) -> None:
        """End all of them."""
        with self._lock:
            self._stopped = True
            clients = list(self._clients)
        for client in clients:
            client.shut()

    def _relay(self, client: Link, said: bytes) -> None:
        family = socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET
        try:
            with socket.socket(family) as other, contextlib.suppress(OSError, ValueError):
                other.connect(self._server)
                other.setblocking(False)
                _Pump(client, other, said).run()
        finally:
            self._end(client)

    def _end(self, client: Link) -> None:
        with self._lock:
            self._clients.discard(client)
        client.close()


class _Pump:
    """Both directions of one connection."""

    def __init__(self, client: Link, server: socket.socket, said: bytes) -> None:
        self._client = client
        self._server = server
        self._spoken = WithoutFirstAnswer()
        self._to_server, self._to_client = self._spoken.feed(said), b""
        self._last_s: float | None = None  # until when the client may take the rest, once the server has ended

    def run(self) -> None:
        """Until an end is closed; what the server has said before is passed on."""
        while self._wait():
            if not self._hear_client() or not self._hear_server():
                return
            with contextlib.suppress(BlockingIOError):
                self._to_server = self._to_server[self._server.send(self._to_server) :] if self._to_server else b""
            with contextlib.suppress(BlockingIOError):
                self._to_client = self._to_client[self._client.send([self._to_client]) :] if self._to_client else b""

    def _wait(self) -> bool:
        """Until something can be done. False when nothing will be."""
        poller = select.poll()
        takes = len(self._to_server) < _MOST_WAITING
        gives = len(self._to_client) < _MOST_WAITING and self._last_s is None
        if takes or self._to_client:
            mask = (select.POLLIN if takes else 0) | (select.POLLOUT if self._to_client else 0)
            poller.register(self._client.fileno(), mask)
        if self._last_s is None and (gives or self._to_server):
            mask = (select.POLLIN if gives else 0) | (select.POLLOUT if self._to_server else 0)
            poller.register(self._server.fileno(), mask)
        if self._last_s is None:
            if not self._client.holds_some:
                poller.poll()
            return True
        left_s = self._last_s - time.monotonic()
        return bool(self._to_client) and left_s > 0 and bool(poller.poll(left_s * 1e3))

    def _hear_client(self) -> bool:
        if len(self._to_server) >= _MOST_WAITING:
            return True
        heard = self._client.receive(_READ_BYTES)
        if heard and self._last_s is None:
            self._to_server += self._spoken.feed(heard)
        return heard != b""

    def _hear_server(self) -> bool:
        if self._last_s is not None or len(self._to_client) >= _MOST_WAITING:
            return True
        try:
            heard = self._server.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        if not heard:
            self._last_s = time.monotonic() + _LAST_S
            self._to_server = b""
        self._to_client += heard
        return True
