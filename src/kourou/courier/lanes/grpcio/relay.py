"""Clients that want one of gRPC's standard services are passed on, byte by byte, to the server that has them.

They have been told hello already, and answer that once more than grpcio's server expects: that answer is left out.
"""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

from kourou import threads
from kourou.courier.lanes.http2.control import ACK, PREFACE, FrameType
from kourou.courier.lanes.http2.tcp import TcpSocket
from kourou.courier.lanes.loop.quota import ConnectionQuota

_log = logging.getLogger("kourou.courier")

_READ_BYTES = 64 << 10
_MAX_WAITING = 128 << 10  # bytes that one end has sent and the other has not taken
_MAX_RELAYS = 32  # at a time, half of them of one host: each takes three descriptors
_CROWDED_TIMEOUT_S = 1.0  # that one has when another client wants its place
_SILENCE_S = 300.0  # after which one ends; clients who want to be told of changes ask now and then whether all is well
_LAST_S = 10.0  # for a client to take what the server has said before it ended
_ROUND_S = 1.0  # how often all are looked over
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
    """Passes connections on, all of them in one thread, which comes with the first."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._arrivals: deque[tuple[TcpSocket, str, bytes]] = deque()
        self._relays: ConnectionQuota[_Relay] = ConnectionQuota(
            _MAX_RELAYS, timeout_s=math.inf, crowded_timeout_s=_CROWDED_TIMEOUT_S
        )
        self._wakeup_w: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, client: TcpSocket, host: str, said: bytes) -> None:
        """Pass a connection on, and what it has said so far. It belongs to this object from now on. For one thread."""
        self._arrivals.append((client, host, said))
        if self._wakeup_w is None and not self._start():  # no more threads or descriptors, or the interpreter is ending
            self._arrivals.clear()
            client.close()
        self._wake()

    def stop(self) -> None:
        """End all of them."""
        self._stopped = True
        self._wake()
        if self._wakeup_w is not None and self._thread is not None:
            self._thread.join()
            self._wakeup_w.close()

    def _start(self) -> bool:
        try:
            wakeup_r, wakeup_w = socket.socketpair()
        except OSError:
            return False
        self._thread = threading.Thread(target=self._run, args=(wakeup_r,), name="kourou-grpc-relay", daemon=True)
        try:
            threads.start(self._thread)
        except RuntimeError:
            wakeup_r.close()
            wakeup_w.close()
            return False
        wakeup_w.setblocking(False)
        self._wakeup_w = wakeup_w
        return True

    def _wake(self) -> None:
        if self._wakeup_w is not None:
            with contextlib.suppress(BlockingIOError):  # it is about to look
                self._wakeup_w.send(b"!")

    # -- the thread -------------------------------------------------------------------------------------------

    def _run(self, wakeup_r: socket.socket) -> None:
        wakeup_r.setblocking(False)
        while not self._stopped:
            self._wait(wakeup_r)
            while self._arrivals:
                self._begin(*self._arrivals.popleft())
        for relay in list(self._relays):
            self._end(relay)
        while self._arrivals:
            self._arrivals.popleft()[0].close()
        wakeup_r.close()

    def _wait(self, wakeup_r: socket.socket) -> None:
        """Until something can be done, and do it."""
        poller = select.poll()
        poller.register(wakeup_r, select.POLLIN)
        relays: dict[int, _Relay] = {}
        for relay in self._relays:
            for descriptor, mask in relay.interests().items():
                poller.register(descriptor, mask)
                relays[descriptor] = relay
        hasty = any(relay.has_buffered for relay in self._relays)
        events = poller.poll(0 if hasty else _ROUND_S * 1e3 if relays else None)
        with contextlib.suppress(BlockingIOError):
            wakeup_r.recv(_READ_BYTES)
        due = {relays[descriptor] for descriptor, _ in events if descriptor in relays}
        for relay in due | {relay for relay in self._relays if relay.has_buffered or relay.is_over}:
            if not relay.pump():
                self._end(relay)

    def _begin(self, client: TcpSocket, host: str, said: bytes) -> None:
        relays = self._relays
        if relays.is_full or relays.host_is_full(host):
            overdue = relays.overdue(of_host=host if relays.host_is_full(host) else None, others_wait=True)
            if not overdue:
                client.close()
                return
            self._end(overdue[0])
        try:
            server = self._connect()
        except Exception:  # noqa: BLE001 - the server's trouble must not end this thread
            _log.exception("a client of gRPC's standard services could not be served")
            client.close()
            return
        relays.add(_Relay(client, server, said), host)

    def _end(self, relay: _Relay) -> None:
        self._relays.discard(relay)
        relay.close()


class _Relay:
    """Both directions of one connection."""

    def __init__(self, client: TcpSocket, server: socket.socket, said: bytes) -> None:
        self._client = client
        self._server = server
        self._server.setblocking(False)
        self._spoken = WithoutFirstAnswer()
        self._to_server, self._to_client = self._spoken.feed(said), b""
        self._last_s: float | None = None  # until when the client may take the rest, once the server has ended
        self._heard_at = time.monotonic()

    @property
    def has_buffered(self) -> bool:
        """Whether there is something to pass on that ``poll`` does not know of."""
        return self._client.has_buffered and len(self._to_server) < _MAX_WAITING

    @property
    def is_over(self) -> bool:
        """Whether it is to end, now that nobody has said anything for so long, or that the last word was said."""
        now = time.monotonic()
        if self._last_s is not None and (now >= self._last_s or not self._to_client):
            return True
        return now - self._heard_at > _SILENCE_S

    def interests(self) -> dict[int, int]:
        """What to wait for."""
        takes = len(self._to_server) < _MAX_WAITING
        gives = len(self._to_client) < _MAX_WAITING and self._last_s is None
        found = {}
        if takes or self._to_client:
            found[self._client.fileno()] = (select.POLLIN if takes else 0) | (select.POLLOUT if self._to_client else 0)
        if self._last_s is None and (gives or self._to_server):
            found[self._server.fileno()] = (select.POLLIN if gives else 0) | (select.POLLOUT if self._to_server else 0)
        return found

    def pump(self) -> bool:
        """Pass on what there is, without waiting. False when it is over."""
        if self.is_over:
            return False
        try:
            if not self._hear_client() or not self._hear_server():
                return False
            with contextlib.suppress(BlockingIOError):
                self._to_server = self._to_server[self._server.send(self._to_server) :] if self._to_server else b""
            with contextlib.suppress(BlockingIOError):
                self._to_client = self._to_client[self._client.send([self._to_client]) :] if self._to_client else b""
        except (OSError, ValueError):
            return False
        return not self.is_over

    def close(self) -> None:
        """Let go of both ends."""
        self._server.close()
        self._client.close()

    def _hear_client(self) -> bool:
        if len(self._to_server) >= _MAX_WAITING:
            return True
        heard = self._client.receive(_READ_BYTES)
        if heard:
            self._heard_at = time.monotonic()
            if self._last_s is None:
                self._to_server += self._spoken.feed(heard)
        return heard != b""

    def _hear_server(self) -> bool:
        if self._last_s is not None or len(self._to_client) >= _MAX_WAITING:
            return True
        try:
            heard = self._server.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        self._heard_at = time.monotonic()
        if not heard:
            self._last_s = time.monotonic() + _LAST_S
            self._to_server = b""
        self._to_client += heard
        return True
