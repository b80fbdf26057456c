"""gRPC's standard services, health checking and reflection, and what a server says of itself: grpcio's part."""

from __future__ import annotations

import hmac
import secrets
import sys
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kourou.courier.endpoint import Endpoint
from kourou.courier.lanes import grpc_process
from kourou.courier.lanes.grpc_channel import SERVICE, TOKEN_KEY
from kourou.courier.methods import MethodMetrics
from kourou.courier.session import Dispatcher
from kourou.courier.workers import ThreadPerTask
from kourou.errors import LaunchError
from kourou.proto.v1 import courier_pb2

__all__ = ["StandardServices"]

_FLUSH_S = 0.5  # how long the last answers may take to leave when the server stops


class StandardServices:
    """A server within this host, whose clients come through the lane's own port.

    Args:
        dispatcher: whose calls are counted.
        token: what clients have to show who want to know more than whether the server is healthy.
        describe: what the server is; asked when a client wants to know.

    Attributes:
        address: where it listens.
    """

    def __init__(self, dispatcher: Dispatcher, token: bytes, describe: Callable[[], Endpoint]) -> None:
        self._dispatcher = dispatcher
        self._token = token
        self._describe = describe
        self._health = health.HealthServicer(experimental_non_blocking=False)
        self._server = grpc_process.open_server(ThreadPerTask())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.address = self._listen()
        self.set_healthy(healthy=True)
        self._server.start()

    def set_healthy(self, *, healthy: bool) -> None:
        """What the health service answers, for the server and for its service."""
        states = health_pb2.HealthCheckResponse
        for service in ("", SERVICE):
            self._health.set(service, states.SERVING if healthy else states.NOT_SERVING)

    def stop(self) -> None:
        """Close all connections."""
        self._health.enter_graceful_shutdown()
        self._server.stop(_FLUSH_S).wait(2 * _FLUSH_S)
        del self._server  # gRPC frees its own poller with the last of its objects, not when they stop

    def _listen(self) -> str | tuple[str, int]:
        try:
            if sys.platform == "linux":  # a name that is no file, and ends with the process
                name = f"kourou-{secrets.token_hex(16)}"
                self._server.add_insecure_port(f"unix-abstract:{name}")
                return f"\0{name}"
            return "127.0.0.1", self._server.add_insecure_port("127.0.0.1:0")
        except RuntimeError as error:
            raise LaunchError(f"the standard services of gRPC cannot listen: {error}") from error

    def _handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Connect": grpc.stream_stream_rpc_method_handler(_not_here),
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


def _not_here(_requests: object, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Connect has to be the first call of a connection")


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
