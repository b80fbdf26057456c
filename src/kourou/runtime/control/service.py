"""The coordinator's gRPC side: nodes in other processes reach it here."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from kourou.courier.lanes.grpcio import process
from kourou.courier.lanes.grpcio.executor import CallingThread, StreamThreads
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control import messages
from kourou.runtime.control.coordinator import Closed, Coordinator
from kourou.runtime.interpreter.stacks import stacks_of_this_process
from kourou.runtime.model.records import NodeState, Outcome
from kourou.runtime.model.status import RunStatus

__all__ = ["SERVICE", "TOKEN_KEY", "CoordinatorServer"]

SERVICE = "kourou.v1.Coordinator"
_SPARE_THREADS = 4
_SPARE_CONNECTIONS = 256  # beyond one for each node and its restart; a stranger's is one of them
TOKEN_KEY = "kourou-token"  # noqa: S105 - the metadata key, not a secret


class CoordinatorServer:
    """Serves a coordinator on a port of the loopback interface.

    Args:
        coordinator: what is served.
        token: every call must show it.
        status: the run's present status.
        host: the address to listen on.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        token: str,
        status: Callable[[], RunStatus],
        host: str = "127.0.0.1",
    ) -> None:
        self._coordinator = coordinator
        self._status = status
        # A thread for the stream of every node, and a few for all other calls.
        nodes = len(coordinator.directory.all())
        self._threads = StreamThreads(reserve=nodes + _SPARE_THREADS)
        most = {"grpc.max_allowed_incoming_connections": 2 * nodes + _SPARE_CONNECTIONS}
        self._server = process.open_server(self._threads, [_TokenCheck(token)], most)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, self._handlers())])
        port = self._server.add_insecure_port(f"{host}:0")
        self.address = f"{host}:{port}"
        self._server.start()

    def close(self) -> None:
        """Stop listening; streams end."""
        self._coordinator.close()
        self._server.stop(grace=None).wait()
        self._threads.close()

    def _handlers(self) -> dict[str, Any]:
        unary: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
            "Update": (self._update, pb.UpdateRequest),
            "Follow": (self._follow, pb.FollowRequest),
            "Report": (self._report, pb.ReportRequest),
            "Stop": (self._stop, pb.StopRequest),
            "Status": (lambda _request, _context: messages.status_to_proto(self._status()), pb.StatusRequest),
            "Stacks": (lambda _request, _context: pb.StacksReply(text=stacks_of_this_process()), pb.StacksRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=_to_bytes
            )
            for name, (method, request) in unary.items()
        }
        handlers["Attach"] = grpc.unary_stream_rpc_method_handler(
            self._attach, request_deserializer=pb.AttachRequest.FromString, response_serializer=_to_bytes
        )
        return handlers

    def _attach(self, request: pb.AttachRequest, context: grpc.ServicerContext) -> Iterator[pb.Event]:
        watcher = self._coordinator.attach(request.name, request.attempt)
        if not context.add_callback(lambda: self._coordinator.detach(watcher)):
            self._coordinator.detach(watcher)
        while not isinstance(event := watcher.events.get(), Closed):
            yield messages.event_to_proto(event)

    def _update(self, request: pb.UpdateRequest, _context: grpc.ServicerContext) -> pb.Ack:
        changes: dict[str, Any] = {}
        if request.HasField("state"):
            changes["state"] = NodeState(request.state)
        if request.HasField("endpoint"):
            changes["endpoint"] = request.endpoint
        if request.HasField("serves_only"):
            changes["serves_only"] = request.serves_only
        self._coordinator.change(request.name, request.attempt, **changes)
        return pb.Ack()

    def _follow(self, request: pb.FollowRequest, _context: grpc.ServicerContext) -> pb.Ack:
        self._coordinator.follow(request.follower, request.name)
        return pb.Ack()

    def _report(self, request: pb.ReportRequest, _context: grpc.ServicerContext) -> pb.Ack:
        outcome = Outcome(
            kind=request.kind, code=request.code, exception=request.exception, traceback=request.traceback
        )
        self._coordinator.report(request.name, request.attempt, outcome)
        return pb.Ack()

    def _stop(self, request: pb.StopRequest, _context: grpc.ServicerContext) -> pb.Ack:
        self._coordinator.request_stop(request.reason, request.origin)
        return pb.Ack()


class _TokenCheck(grpc.ServerInterceptor):
    """Refuses a call without the token before its request is read, and without a thread."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # A handler of streams: for those, grpcio waits for no request.
        self._refusal: Any = grpc.stream_stream_rpc_method_handler(_refuse)

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        shown = dict(handler_call_details.invocation_metadata).get(TOKEN_KEY, "")
        if hmac.compare_digest(str(shown).encode(), self._token):
            return continuation(handler_call_details)
        return self._refusal


def _refuse(_requests: object, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "the call did not show this program's token")


_refuse.experimental_thread_pool = CallingThread()  # type: ignore[attr-defined]  # where grpcio runs this one


def _to_bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
