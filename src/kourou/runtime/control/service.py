"""The coordinator's gRPC side: nodes in other processes reach it here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kourou.courier.core.protocol import TOKEN_KEY
from kourou.courier.lanes.grpc.calls import CallServer, Methods
from kourou.courier.lanes.local.socket_file import listen
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control import messages
from kourou.runtime.control.coordinator import Coordinator, Watcher
from kourou.runtime.control.messages import SERVICE
from kourou.runtime.control.node_events import Event
from kourou.runtime.control.resizing import Resizes
from kourou.runtime.interpreter.stacks import stacks_of_this_process
from kourou.runtime.model.status import RunStatus

_HOST = "127.0.0.1"
_SPARE_CONNECTIONS = 256  # beyond one for each node and its restart; a stranger's is one of them


class CoordinatorServer:
    """Serves a coordinator on a port of the loopback interface, in one thread, however many nodes there are."""

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        token: str,
        status: Callable[[], RunStatus],
    ) -> None:
        self._coordinator = coordinator
        self._status = status
        self._events = _Encoder()
        self._resizes = Resizes(coordinator.resize)
        methods = Methods(
            unary=_by_path(
                Follow=(pb.FollowRequest, lambda request: coordinator.follow(request.follower, request.name)),
                FollowGroup=(pb.FollowRequest, self._follow_group),
                Stop=(pb.StopRequest, lambda request: coordinator.request_stop(request.reason, request.origin)),
                Restart=(pb.RestartRequest, lambda request: coordinator.request_restart(request.name, request.origin)),
                Resize=(pb.ResizeRequest, self._resizes.answer),
                Status=(pb.StatusRequest, lambda _: messages.status_to_proto(self._status())),
                Stacks=(pb.StacksRequest, lambda _: pb.StacksReply(text=stacks_of_this_process())),
            ),
            streaming={f"/{SERVICE}/Attach": self._attach},
            token_key=TOKEN_KEY,
            token=token,
        )
        nodes = len(coordinator.directory.all())
        self._server = CallServer(_HOST, methods, max_unauthenticated=2 * nodes + _SPARE_CONNECTIONS)
        self.address = f"{_HOST}:{self._server.port}"
        self._sockets: list[str] = []

    def listen_in(self, folder: str) -> str:
        """Listen in a private folder as well; the address there, for processes of this host, is the quicker one."""
        listener, path = listen(folder)
        self._sockets.append(path)
        self._server.also_listen(listener)
        return f"unix:{path}"

    def close(self) -> None:
        """Stop listening; streams end."""
        self._server.close()
        for path in self._sockets:
            Path(path).unlink(missing_ok=True)

    def _attach(self, data: bytes, on_news: Callable[[], None]) -> _Stream:
        request = pb.Words.FromString(data).attach
        watcher = self._coordinator.attach(request.name, request.attempt, on_news)
        return _Stream(self._coordinator, watcher, self._events)

    def _follow_group(self, request: pb.FollowRequest) -> pb.Records:
        records = self._coordinator.follow_group(request.follower, request.name)
        return pb.Records(records=map(messages.record_to_proto, records))


class _Stream:
    """What happens, as messages for one node, and what that says; see ``kourou.courier.lanes.grpc.calls.Source``."""

    def __init__(self, coordinator: Coordinator, watcher: Watcher, encoder: _Encoder) -> None:
        self._coordinator = coordinator
        self._watcher = watcher
        self._encoder = encoder

    def next_message(self) -> bytes | None:
        """What has happened next, if anything has."""
        event = self._watcher.take()
        return None if event is None else self._encoder.encode(event)

    def take(self, message: bytes) -> None:
        """It says what has become of it, or of a node that it runs."""
        words, attempt = pb.Words.FromString(message), self._watcher.attempt
        if words.HasField("update"):
            self._coordinator.change(words.update.name, attempt, **messages.changes_from_proto(words.update))
        elif words.HasField("report"):
            self._coordinator.report(words.report.name, attempt, messages.outcome_from_proto(words.report))

    def ends(self) -> bool:
        """It has said all, and will hear of nothing more."""
        return True

    def close(self) -> None:
        """The node is gone, or about to go."""
        self._coordinator.detach(self._watcher)


class _Encoder:
    """Makes messages of events; one that many hear of is made once. For one thread."""

    def __init__(self) -> None:
        self._event: Event | None = None
        self._message = b""

    def encode(self, event: Event) -> bytes:
        """The event as a message."""
        if event is not self._event:
            self._event, self._message = event, bytes(messages.event_to_proto(event).SerializeToString())
        return self._message


def _by_path(**methods: tuple[type[Any], Callable[[Any], Any]]) -> dict[str, Callable[[bytes], bytes]]:
    """Methods that are given a message of their kind, and that return one, or None for an ``Ack``."""
    return {f"/{SERVICE}/{name}": _of_bytes(kind, method) for name, (kind, method) in methods.items()}


def _of_bytes(kind: type[Any], method: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def answer(data: bytes) -> bytes:
        reply = method(kind.FromString(data))
        return bytes((pb.Ack() if reply is None else reply).SerializeToString())

    return answer
