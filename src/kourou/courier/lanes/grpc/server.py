"""The lane between hosts, server side: the Courier service, and gRPC's standard ones, on one port.

It speaks HTTP/2 itself, as its client does: grpcio's server has four changes of thread between a call and its answer,
and copies bulk twice. Connections whose first call is another one than Connect are grpcio's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from kourou.courier.core.endpoint import Endpoint
from kourou.courier.lanes.grpc.connection import GrpcConnection, GrpcService
from kourou.courier.lanes.grpcio.relay import Relays
from kourou.courier.lanes.http2 import tcp
from kourou.courier.lanes.loop.event_loop import EventLoop
from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.lanes.ports import listen
from kourou.courier.serving.dispatcher import Dispatcher

if TYPE_CHECKING:
    import ssl

    from kourou.courier.lanes.grpcio.standard_services import StandardServices


class GrpcListener:
    """Listens on a TCP port.

    Args:
        port: 0 lets the system choose.
        tls: what the server proves itself with; None for plain connections.
        folder: where a socket may lie; None for the user's own folder.

    Raises:
        LaunchError: the port is taken, or the address is not this host's.
    """

    def __init__(
        self,
        loop: EventLoop,
        dispatcher: Dispatcher,
        *,
        host: str,
        port: int,
        token: str,
        tls: ssl.SSLContext | None,
        folder: str | None,
        describe: Callable[[], Endpoint],
    ) -> None:
        self._tls = tls
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        listener = listen(host, port)
        listener.setblocking(False)
        self.port: int = listener.getsockname()[1]
        secret = token.encode()

        def description() -> bytes:
            from kourou.courier.lanes.grpcio.standard_services import encode_description  # noqa: PLC0415 - see below

            return encode_description(describe())

        def standard() -> StandardServices:
            # Few servers are ever asked, and it imports all of grpcio.
            from kourou.courier.lanes.grpcio.standard_services import StandardServices  # noqa: PLC0415

            return StandardServices(dispatcher, secret, folder, description)

        self._healthy = True
        self._make_standard = standard
        self._standard: StandardServices | None = None  # until somebody asks
        self._relays = Relays(self._connect_standard)
        self._service = GrpcService(
            dispatcher=dispatcher, token=secret, describe=description, hand_over=self._relays.add
        )
        loop.listen(listener, self._make_connection)

    def set_healthy(self, *, healthy: bool) -> None:
        """What the standard health service answers from now on."""
        self._healthy = healthy
        if self._standard is not None:
            self._standard.set_healthy(healthy=healthy)

    def stop(self) -> None:
        """End the standard services."""
        if self._standard is not None:
            self._standard.drain()
        self._relays.stop()
        if self._standard is not None:
            self._standard.stop()

    def _connect_standard(self) -> socket.socket:
        if self._standard is None:
            self._standard = self._make_standard()
            self._standard.set_healthy(healthy=self._healthy)
        return self._standard.connect()

    def _make_connection(self, accepted: socket.socket, poller: Poller, loop_thread: int) -> GrpcConnection:
        try:
            peer = accepted.getpeername()[:2]
            sock = tcp.serve(accepted, self._tls)
        except BaseException:
            accepted.close()
            raise
        return GrpcConnection(sock, peer, poller, loop_thread, self._service)
