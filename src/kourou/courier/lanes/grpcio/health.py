"""gRPC's health checking, for a server that anybody reaches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kourou.courier.core.protocol import SERVICE

_STATES = health_pb2.HealthCheckResponse
_SERVICES = frozenset({"", SERVICE})

# Of grpcio: one answer, or None for the end; it waits until the connection has taken it.
_Send = Callable[[Any], object]


class Health(health_pb2_grpc.HealthServicer):
    """Whether the server is healthy, for who asks and for who watches.

    grpcio's own servicer sends under its lock, which the thread that notices a client's end asks for as well: a watch
    that is told something as it ends would stop both for ever, and one that reads nothing whoever sets the state. This
    one sends outside of its lock and in threads of the server, one at most for each watch.
    """

    def __init__(self, run: Callable[[Callable[[], None]], object]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._state = _STATES.SERVING
        self._is_ending = False
        self._watches: set[_Watch] = set()

    def set(self, *, healthy: bool) -> None:
        """Say so from now on."""
        self._change(_STATES.SERVING if healthy else _STATES.NOT_SERVING)

    def end(self) -> None:
        """Tell those who watch that the server is not serving, as their last answer."""
        self._change(_STATES.NOT_SERVING, is_ending=True)

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """The state of a service."""
        if request.service not in _SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}")
        return _STATES(status=self._state)

    def Watch(self, request: Any, context: Any, send: _Send) -> None:  # type: ignore[override]  # noqa: N802 - gRPC's name
        """The state of a service, now and whenever it changes. The call goes on after this has returned."""
        if request.service not in _SERVICES:
            send(_STATES(status=_STATES.SERVICE_UNKNOWN))
            send(None)
            return
        watch = _Watch(send)
        with self._lock:
            self._watches.add(watch)
        if context.add_callback(lambda: self._forget(watch)):
            self._tell(watch)
        else:
            self._forget(watch)

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]  # a watch occupies no thread

    def _change(self, state: Any, *, is_ending: bool = False) -> None:
        with self._lock:
            if self._is_ending:
                return
            self._state, self._is_ending = state, is_ending
            watches = list(self._watches)
        for watch in watches:
            self._run(partial(self._tell, watch))

    def _forget(self, watch: _Watch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def _tell(self, watch: _Watch) -> None:
        while (answer := self._next_answer(watch)) is not None:
            watch.send(_STATES(status=answer))
            watch.is_being_told = False
        if self._is_ending and not watch.is_being_told:
            self._forget(watch)
            watch.send(None)

    def _next_answer(self, watch: _Watch) -> Any:
        with self._lock:
            if watch.is_being_told or watch.told == self._state:
                return None
            watch.is_being_told, watch.told = True, self._state
            return self._state


class _Watch:
    """Somebody who watches, and what they were told last."""

    def __init__(self, send: _Send) -> None:
        self.send = send
        self.told: Any = None
        self.is_being_told = False
