"""gRPC's standard services, health checking and reflection, and what a server says of itself: grpcio's part.

gRPC's threads do not survive ``os.fork()``, but their locks do, as they were at that moment. A child that uses gRPC
again may therefore wait for ever, inside C code that no time-out reaches. Such a child gets an error instead.
"""

from __future__ import annotations

import hmac
import os
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kourou.courier.core.endpoint import Endpoint
from kourou.courier.core.protocol import SERVICE, TOKEN_KEY
from kourou.courier.lanes.grpcio.health import Health
from kourou.courier.lanes.local import socket_file
from kourou.courier.serving.dispatcher import Dispatcher
from kourou.courier.serving.workers import WorkerPool
from kourou.errors import LaunchError, UsedAfterFork
from kourou.proto.v1 import courier_pb2

_MAX_STREAMS = 2  # of one connection
_MAX_RPCS = 64  # at a time: each may take a thread, and each that watches the health another one
_OPTIONS = {
    "grpc.so_reuseport": 0,  # a port belongs to one server
    "grpc.server_handshake_timeout_ms": 10_000,  # for who connects and says nothing
    "grpc.max_connection_idle_ms": 60_000,  # for who has no call under way; a channel connects again when it has one
    "grpc.max_concurrent_streams": _MAX_STREAMS,
    "grpc.max_receive_message_length": 64 << 10,  # what is asked here is short
}
_CONNECT_S = 1.0
_FLUSH_S = 0.5  # how long the last answers may take to leave when the server stops

_owner: int | None = None  # the process that first used gRPC


def claim() -> None:
    """To be called before gRPC is used: it belongs to this process from now on.

    Raises:
        UsedAfterFork: it belongs to a process that this one was forked from.
    """
    global _owner  # noqa: PLW0603 - one per process, as gRPC's own state is
    if _owner is None:
        _owner = os.getpid()
    elif _owner != os.getpid():
        raise UsedAfterFork(
            f"process {os.getpid()} was forked from process {_owner}, which used gRPC. Clients and servers of nodes "
            "work here, and programs can be launched, but gRPC's own services (health, reflection) would hang: serve "
            "them in a process started by spawn or forkserver (multiprocessing.get_context), or before gRPC is used"
        )


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
        self._server: grpc.Server | None = None
        self._threads = WorkerPool(2 * _MAX_RPCS, 2 * _MAX_RPCS, "kourou-grpc-stream")
        self._health = Health(self._threads.run)
        self._path = ""
        self.set_healthy = self._health.set

    def connect(self) -> socket.socket:
        """A connection of its own for a client. For one thread.

        Raises:
            OSError: there are no descriptors left.
            LaunchError: it cannot listen.
            UsedAfterFork: see ``claim``.
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
        if self._server is None:
            return
        self._server.stop(None).wait(_FLUSH_S)
        self._threads.stop()
        del self._server  # gRPC frees its own poller with the last of its objects, not when they stop

    def _start(self) -> None:
        claim()
        # grpcio calls nothing of an executor but this; those of concurrent.futures are joined at exit, and refuse then.
        threads: Any = SimpleNamespace(submit=self._threads.run)
        server = grpc.server(threads, options=[*_OPTIONS.items()], maximum_concurrent_rpcs=_MAX_RPCS)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        server.add_generic_rpc_handlers((self._handlers(),))
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        path = socket_file.new_path(self._folder or socket_file.default_folder())
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise LaunchError(f"the standard services of gRPC cannot listen: {error}") from error
        server.start()
        self._server, self._path = server, path

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
