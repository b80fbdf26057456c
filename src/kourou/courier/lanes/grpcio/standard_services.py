"""gRPC's standard services, health checking and reflection, and what a server says of itself: grpcio's part."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Callable

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kourou.courier.core.endpoint import Endpoint
from kourou.courier.core.protocol import SERVICE, TOKEN_KEY
from kourou.courier.lanes.grpcio import process
from kourou.courier.lanes.grpcio.executor import StreamThreads
from kourou.courier.lanes.grpcio.health import Health
from kourou.courier.lanes.local import socket_file
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.errors import LaunchError
from kourou.proto.v1 import courier_pb2

_MAX_STREAMS = 2  # of one connection
_MAX_RPCS = 64  # at a time: each may take a thread
_OPTIONS = {
    "grpc.max_concurrent_streams": _MAX_STREAMS,
    "grpc.max_receive_message_length": 64 << 10,  # what is asked here is short
}
_CONNECT_S = 1.0
_FLUSH_S = 0.5  # how long the last answers may take to leave when the server stops


class StandardServices:
    """A server for this process alone, whose clients come through the lane's own port; it starts with the first.

    It listens in a folder that no other user can enter: past the relays, nobody would count its clients.

    Args:
        token: what clients have to show who want to know more than whether the server is healthy.
    """

    def __init__(self, dispatcher: Dispatcher, token: bytes, folder: str | None, describe: Callable[[], bytes]) -> None:
        self._dispatcher = dispatcher
        self._token = token
        self._folder = folder
        self._describe = describe
        self._health = Health(self._run)
        self._server: grpc.Server | None = None
        self._threads: StreamThreads | None = None
        self._path = ""
        self.set_healthy = self._health.set

    def connect(self) -> socket.socket:
        """A connection of its own for a client. For one thread.

        Raises:
            OSError: there are no descriptors left.
            LaunchError: it cannot listen.
            UsedAfterFork: see ``grpc_process``.
        """
        if self._server is None:
            self._start()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_CONNECT_S)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def drain(self) -> None:
        """Let the last answers leave, while connections are still passed on."""
        self._health.end()
        if self._server is not None:
            self._server.stop(_FLUSH_S).wait(2 * _FLUSH_S)

    def stop(self) -> None:
        """Close all connections. Nobody connects any more."""
        if self._server is None or self._threads is None:
            return
        self._server.stop(None).wait(_FLUSH_S)
        self._threads.close()
        del self._server  # gRPC frees its own poller with the last of its objects, not when they stop

    def _start(self) -> None:
        threads = StreamThreads()
        server = process.open_server(threads, options=_OPTIONS, maximum_concurrent_rpcs=_MAX_RPCS)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        server.add_generic_rpc_handlers((self._handlers(),))
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        path = socket_file.new_path(self._folder or socket_file.default_folder())
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            threads.close()
            raise LaunchError(f"the standard services of gRPC cannot listen: {error}") from error
        server.start()
        self._server, self._threads, self._path = server, threads, path

    def _run(self, task: Callable[[], None]) -> None:
        if self._threads is not None:
            self._threads.submit(task)

    def _handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Connect": grpc.stream_stream_rpc_method_handler(_not_here),
                "Describe": grpc.unary_unary_rpc_method_handler(self._answer_describe),
                "Metrics": grpc.unary_unary_rpc_method_handler(
                    self._answer_metrics, response_serializer=courier_pb2.MetricsReply.SerializeToString
                ),
            },
        )

    def _authenticate(self, context: grpc.ServicerContext) -> None:
        shown = dict(context.invocation_metadata()).get(TOKEN_KEY, "")
        given = shown.encode() if isinstance(shown, str) else shown
        if not hmac.compare_digest(given, self._token):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "missing or wrong token")

    def _answer_describe(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self._authenticate(context)
        return self._describe()

    def _answer_metrics(self, _request: bytes, context: grpc.ServicerContext) -> courier_pb2.MetricsReply:
        self._authenticate(context)
        found = self._dispatcher.metrics().items()
        methods = [courier_pb2.MethodMetrics(name=name, **vars(metrics)) for name, metrics in found]
        return courier_pb2.MetricsReply(methods=methods, queued=self._dispatcher.handlers.pool.queued)


def encode_description(server: Endpoint) -> bytes:
    """What ``Describe`` answers."""
    return courier_pb2.Description(**vars(server)).SerializeToString()


def _not_here(_requests: object, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Connect has to be the first call of a connection")
