"""Connections of gRPC, plain or with TLS: bytes in, bytes out. TCP, and a client's may be a Unix socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kourou.courier.core.target import Tls
from kourou.courier.wire.frames import Buffer
from kourou.sockets import is_itself

if TYPE_CHECKING:
    import ssl

SILENCE_S = 30
"""So long nothing at all may come from the server's host, though it is asked, until the connection counts as lost.
That is twice the time after which a program takes a host for lost: after a cut of d seconds TCP may wait for d more.
The kernels ask and answer, not the processes: a server that is busy, or stopped by a debugger, is not silent."""
_INFO = struct.Struct("=2xBB48xII")  # of tcp_info: retransmits, probes, last_data_recv, last_ack_recv
_UNIX = "unix:"
_AT_ONCE_BYTES, _WORTH_WAITING_BYTES = 256 << 10, 64 << 10
_RECORD_BYTES = 16 << 10  # TLS cuts what it sends into records of this size


class TcpSocket:
    """A connection as it is; the socket belongs to this object from now on."""

    can_block = True  # when there is no limit, receiving waits

    def __init__(self, connection: socket.socket) -> None:
        self._at_once = 1
        self._socket = connection
        # Where segments are large, as on loopback, the kernel does not always see that the room that is left is too
        # small for one. Whoever waited for more would be woken only when the other end asks for room, or never.
        self._may_wait = 0 < _largest_segment(connection) <= _RECORD_BYTES

    @property
    def has_buffered(self) -> bool:
        """Whether there is something to receive that ``poll`` does not know of."""
        return False

    def fileno(self) -> int:
        """For ``poll``."""
        return self._socket.fileno()

    def send(self, buffers: Sequence[Buffer]) -> int:
        """Send without waiting; how many bytes were taken.

        Raises:
            BlockingIOError: none can be, at present.
            OSError: the connection is gone.
        """
        return self._socket.sendmsg(buffers, (), socket.MSG_DONTWAIT)

    def receive(self, size: int) -> bytes | None:
        """What has come, ``size`` bytes at most. Nothing at all means the end.

        Waits for it, unless the limit is 0: then None means that there is nothing at present, or nothing whole.

        Raises:
            OSError: the connection is gone.
        """
        try:
            return self._socket.recv(size)
        except BlockingIOError:
            return None

    def receive_into(self, sink: memoryview) -> int | None:
        """The same, into memory; the number of bytes."""
        try:
            return self._socket.recv_into(sink)
        except BlockingIOError:
            return None

    def expect(self, size: int) -> None:
        """So much will come at least: ``poll`` and ``receive`` may wait for a good part of it."""
        if not self._may_wait:
            return
        at_once = min(size, _AT_ONCE_BYTES) if size >= _WORTH_WAITING_BYTES else 1
        if at_once != self._at_once:
            self._at_once = at_once
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, at_once)

    def settimeout(self, timeout_s: float | None) -> None:
        """How long receiving may take from now on."""
        self._socket.settimeout(timeout_s)

    def handshake(self) -> bool:
        """Go on with the handshake, if there is one. Whether it is done.

        Raises:
            OSError: the other end is gone, or cannot prove what it has to.
        """
        return True

    def check(self) -> None:
        """See whether the other end's host is still there, and end with what was sent and is not acknowledged.

        TCP_USER_TIMEOUT would do so as well, but also when the other end has no room, be its kernel ever so talkative.

        Raises:
            TimeoutError: the other end's kernel has been silent for SILENCE_S, and asked more than once.
            OSError: the connection is gone.
        """
        if not hasattr(socket, "TCP_INFO"):
            return  # macOS
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        if len(info) == _INFO.size:
            sent_again, asked_for_room, data_ms, ack_ms = _INFO.unpack(info)
            if max(sent_again, asked_for_room) > 1 and min(data_ms, ack_ms) > SILENCE_S * 1000:
                raise TimeoutError(errno.ETIMEDOUT, f"nothing came for {SILENCE_S} s")

    def shutdown(self) -> None:
        """End it, which wakes whoever waits; what was sent still arrives."""
        with contextlib.suppress(OSError):  # that of a socket with TLS would go on without
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Wake whoever waits, and let go."""
        self.shutdown()
        self._socket.close()


class TlsSocket(TcpSocket):
    """A connection with TLS. OpenSSL cannot be used by two threads at once: nothing here waits, and all is locked.

    It takes and gives one record at a time. Who has the lock takes as many as there are: what is done for each adds up.
    """

    can_block = False

    def __init__(self, connection: ssl.SSLSocket) -> None:
        from ssl import SSLWantReadError, SSLWantWriteError  # noqa: PLC0415 - loaded, since there is a socket of its

        super().__init__(connection)
        self._tls = connection
        self._lock = threading.Lock()
        self._not_now = SSLWantReadError, SSLWantWriteError

    @property
    def has_buffered(self) -> bool:
        with self._lock:
            return bool(self._tls.pending())

    def send(self, buffers: Sequence[Buffer]) -> int:
        data, sent = memoryview(_record(buffers)), 0
        write, size = self._tls.send, len(data)
        try:
            with self._lock:
                while sent < size:
                    sent += write(data[sent:])
        except self._not_now as error:
            if not sent:
                raise BlockingIOError(*error.args) from None
        return sent

    def receive(self, size: int) -> bytes | None:
        try:
            with self._lock:
                return self._tls.recv(size)
        except self._not_now:
            return None

    def receive_into(self, sink: memoryview) -> int | None:
        read, size, received = self._tls.recv_into, len(sink), 0
        try:
            with self._lock:
                while received < size and (count := read(sink[received:], size - received)):
                    received += count
        except self._not_now:
            return received or None
        return received

    def expect(self, size: int) -> None:
        super().expect(size - _RECORD_BYTES)  # OpenSSL may have a part of a record of that already

    def settimeout(self, timeout_s: float | None) -> None:
        self._tls.settimeout(0.0 if timeout_s is None else timeout_s)  # without a limit, nothing waits

    def handshake(self) -> bool:
        try:
            with self._lock:
                self._tls.do_handshake()
        except self._not_now:
            return False
        return True

    def close(self) -> None:
        self.shutdown()
        with self._lock:
            self._tls.close()


def _record(buffers: Sequence[Buffer]) -> Buffer:
    """The first buffer, if it is worth a record of TLS; else as much as is, or all."""
    if len(buffers[0]) >= _RECORD_BYTES or len(buffers) == 1:
        return buffers[0]
    pieces: list[Buffer] = []
    left = _RECORD_BYTES
    for buffer in buffers:
        pieces.append(memoryview(buffer)[:left])
        left -= len(pieces[-1])
        if not left:
            break
    return b"".join(pieces)


def _largest_segment(connection: socket.socket) -> int:
    """Bytes that the other end sends at a time, as far as the system says; 0: it does not."""
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    except OSError:
        return 0


def is_unix(address: str) -> bool:
    """Whether it is ``unix:`` and the path of a socket, not ``host:port``."""
    return address.startswith(_UNIX)


def connect(address: str, timeout_s: float | None, tls: Tls | None) -> TcpSocket:
    """Connect to ``host:port``, or ``unix:`` and a path. Receiving is limited to ``timeout_s`` until ``settimeout``.

    Raises:
        OSError: nothing answers there, or it cannot prove who it is.
    """
    if is_unix(address):
        return _connect_unix(address.removeprefix(_UNIX), timeout_s)
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    connection = socket.create_connection((host, int(port)), timeout_s)
    if is_itself(connection):
        # Reset, it does not keep its server from coming back on the port.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    try:
        _configure(connection)
        if tls is None:
            return TcpSocket(connection)
        return TlsSocket(_context(tls).wrap_socket(connection, server_hostname=host))
    except BaseException:
        connection.close()
        raise


def _connect_unix(path: str, timeout_s: float | None) -> TcpSocket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout_s)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return TcpSocket(connection)


def serve(connection: socket.socket, tls: ssl.SSLContext | None) -> TcpSocket:
    """An accepted connection, where nothing waits. With TLS, its handshake is still to be done."""
    if connection.family != socket.AF_UNIX:
        _configure(connection)
    connection.setblocking(False)
    if tls is None:
        return TcpSocket(connection)
    return TlsSocket(tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False))


def _configure(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _keepalive(SILENCE_S).items():
        if hasattr(socket, name):  # not all systems have them all
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _keepalive(silence_s: int) -> dict[str, int]:
    """The options by which a connection without anything under way ends after so long a silence."""
    ask_after_s, ask_again_s = silence_s // 2, max(1, silence_s // 6)
    return {
        "TCP_KEEPIDLE": ask_after_s,
        "TCP_KEEPALIVE": ask_after_s,  # what macOS calls it
        "TCP_KEEPINTVL": ask_again_s,
        "TCP_KEEPCNT": (silence_s - ask_after_s) // ask_again_s,
    }


def _context(tls: Tls) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 - only for those who use it

    if isinstance(tls, ssl.SSLContext):
        context = tls
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=tls.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    return context
