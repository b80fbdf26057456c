"""The lane between hosts, server side: the Courier service, health checking and reflection on one port."""

from __future__ import annotations

import functools
import hmac
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kourou.courier.endpoint import Endpoint
from kourou.courier.lanes import grpc_process
from kourou.courier.lanes.grpc_channel import SERVICE, TOKEN_KEY
from kourou.courier.lanes.grpc_session import GrpcSession
from kourou.courier.methods import MethodMetrics
from kourou.courier.patrol import ROUND_S, Patrol
from kourou.courier.session import Dispatcher
from kourou.courier.workers import ThreadPerTask
from kourou.errors import LaunchError
from kourou.proto.v1 import courier_pb2

__all__ = ["GrpcListener"]

_SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),  # two servers on one port would each get some of the calls
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A client whose host is gone is noticed within 90 s. It is the client's process that answers, so it gets time.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 60_000),
)
_FLUSH_S = 0.5  # how long the last answers may take to leave when the server stops


class GrpcListener:
    """A gRPC server.

    Args:
        dispatcher: runs the calls.
        host: the address to listen on.
        port: 0 lets the system choose.
        token: what clients have to show.
        credentials: for TLS; None for plain connections.
        describe: what the server is; asked when a client wants to know.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        host: str,
        port: int,
        token: str,
        credentials: grpc.ServerCredentials | None,
        describe: Callable[[], Endpoint],
    ) -> None:
        self._dispatcher = dispatcher
        self._token = token.encode()
        self._describe = describe
        self._sessions: set[GrpcSession] = set()
        self._lock = threading.Lock()
        self._watchman = Patrol(self._watch, "kourou-grpc-watchman")
        self._health = health.HealthServicer(experimental_non_blocking=False)
        grpc_process.claim()
        self._server = grpc.server(ThreadPerTask(), options=_SERVER_OPTIONS)  # type: ignore[arg-type]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.port = self._listen(f"{host}:{port}", credentials)
        self.set_healthy(healthy=True)
        self._server.start()

    def set_healthy(self, *, healthy: bool) -> None:
        """What the health service answers, for the server and for its service."""
        states = health_pb2.HealthCheckResponse
        for service in ("", SERVICE):
            self._health.set(service, states.SERVING if healthy else states.NOT_SERVING)

    def stop(self) -> None:
        """Send what is queued, then close all connections."""
        self._health.enter_graceful_shutdown()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
        self._watchman.stop()
        self._server.stop(_FLUSH_S).wait(2 * _FLUSH_S)
        del self._server  # gRPC frees its own poller with the last of its objects, not when they stop

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise LaunchError(f"cannot listen on {address}: {error}") from error

    def _handlers(self) -> grpc.GenericRpcHandler:
        connect: Any = functools.partial(self._connect)
        connect.experimental_non_blocking = True  # it is given a function to send with, and may come back early
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Connect": grpc.stream_stream_rpc_method_handler(connect),
                "Describe": grpc.unary_unary_rpc_method_handler(
                    self._answer_describe, response_serializer=courier_pb2.Description.SerializeToString
                ),
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

    def _connect(self, requests: Iterator[bytes], context: grpc.ServicerContext, send: Callable[[Any], Any]) -> None:
        self._authenticate(context)
        session = GrpcSession(self._dispatcher, requests, context, send, self._watchman.call)
        with self._lock:
            self._sessions.add(session)
        session.serve(lambda: self._forget(session))

    def _forget(self, session: GrpcSession) -> None:
        with self._lock:
            self._sessions.discard(session)

    def _watch(self) -> float | None:
        """Look at all leaders that run handlers."""
        with self._lock:
            sessions = list(self._sessions)
        busy = [session.watch() for session in sessions]
        return ROUND_S if any(busy) else None

    def _answer_describe(self, _request: bytes, context: grpc.ServicerContext) -> courier_pb2.Description:
        self._authenticate(context)
        here = self._describe()
        return courier_pb2.Description(
            server_id=here.server_id, pid=here.pid, host_id=here.host_id, grpc=here.grpc, local=here.local or ""
        )

    def _answer_metrics(self, _request: bytes, context: grpc.ServicerContext) -> courier_pb2.MetricsReply:
        self._authenticate(context)
        methods = [_metrics(name, metrics) for name, metrics in self._dispatcher.metrics().items()]
        return courier_pb2.MetricsReply(methods=methods, queued=self._dispatcher.pool.queued)


def _metrics(name: str, metrics: MethodMetrics) -> courier_pb2.MethodMetrics:
    fields: dict[str, Any] = {
        "calls": metrics.calls,
        "errors": metrics.errors,
        "in_flight": metrics.in_flight,
        "seconds": metrics.seconds,
        "bytes_in": metrics.bytes_in,
        "bytes_out": metrics.bytes_out,
        "latency_us_log2": metrics.latency_us_log2,
    }
    return courier_pb2.MethodMetrics(name=name, **fields)
