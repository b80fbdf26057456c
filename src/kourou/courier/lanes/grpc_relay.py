"""Clients that want one of gRPC's standard services are passed on, byte by byte, to the server that has them.

They have been told hello already, and answer that once more than grpcio's server expects: that answer is left out.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading

from kourou.courier.lanes.http2 import ACK, PREFACE, FrameType
from kourou.courier.lanes.tcp import Link

__all__ = ["WithoutFirstAnswer", "relay"]

_READ_BYTES = 64 << 10
_MOST_WAITING = 1 << 20  # bytes that one end has sent and the other has not taken
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


def relay(client: Link, said: bytes, server: str | tuple[str, int]) -> None:
    """Pass a connection on, in a thread of its own, until one of its ends is closed.

    Args:
        client: the connection; belongs to the thread from now on.
        said: what the client has said so far.
        server: address of the one that understands it.
    """
    thread = threading.Thread(target=_relay, args=(client, said, server), name="kourou-grpc-relay", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads, or the interpreter is shutting down
        client.close()


def _relay(client: Link, said: bytes, server: str | tuple[str, int]) -> None:
    family = socket.AF_UNIX if isinstance(server, str) else socket.AF_INET
    with contextlib.closing(client), socket.socket(family) as other, contextlib.suppress(OSError, ValueError):
        other.connect(server)
        other.setblocking(False)
        _pump(client, other, WithoutFirstAnswer(), said)


def _pump(client: Link, server: socket.socket, spoken: WithoutFirstAnswer, said: bytes) -> None:
    to_server, to_client = spoken.feed(said), b""
    while True:
        poller = select.poll()
        takes, gives = len(to_server) < _MOST_WAITING, len(to_client) < _MOST_WAITING
        poller.register(client.fileno(), (select.POLLIN if takes else 0) | (select.POLLOUT if to_client else 0))
        poller.register(server.fileno(), (select.POLLIN if gives else 0) | (select.POLLOUT if to_server else 0))
        if not (takes and client.holds_some):
            poller.poll()
        if takes and (heard := client.receive(_READ_BYTES)) is not None:
            if not heard:
                return
            to_server += spoken.feed(heard)
        with contextlib.suppress(BlockingIOError):
            to_server = to_server[server.send(to_server) :] if to_server else b""
        if gives:
            with contextlib.suppress(BlockingIOError):
                if not (answer := server.recv(_READ_BYTES)):
                    return
                to_client += answer
        with contextlib.suppress(BlockingIOError):
            to_client = to_client[client.send([to_client]) :] if to_client else b""
