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
from kourou.courier.lanes.grpcio.standard_services import StandardServices, encode_description
from kourou.courier.lanes.http2 import tcp
from kourou.courier.lanes.loop.event_loop import EventLoop
from kourou.courier.lanes.loop.poller import Poller
from kourou.courier.lanes.ports import listen
from kourou.courier.serving.dispatcher import Dispatcher

if TYPE_CHECKING:
    import ssl

__all__ = ["GrpcListener"]


class GrpcListener:
    """Listens on a TCP port.

    Args:
        loop: serves the connections.
        dispatcher: runs the calls.
        host: the address to listen on.
        port: 0 lets the system choose.
        token: what clients have to show.
        tls: what the server proves itself with; None for plain connections.
        folder: where a socket may lie; None for the user's own folder.
        describe: what the server is; asked when a client wants to know.

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
            return encode_description(describe())

        self._standard = StandardServices(dispatcher, secret, folder, description)
        self.set_healthy = self._standard.set_healthy
        self._relays = Relays(self._standard.connect)
        self._service = GrpcService(
            dispatcher=dispatcher, token=secret, describe=description, hand_over=self._relays.add
        )
        loop.listen(listener, self._make_connection)

    def stop(self) -> None:
        """End the standard services."""
        self._standard.drain()
        self._relays.stop()
        self._standard.stop()

    def _make_connection(self, accepted: socket.socket, poller: Poller, loop_thread: int) -> GrpcConnection:
        try:
            peer = accepted.getpeername()[:2]
            sock = tcp.serve(accepted, self._tls)
        except BaseException:
            accepted.close()
            raise
        return GrpcConnection(sock, peer, poller, loop_thread, self._service)
