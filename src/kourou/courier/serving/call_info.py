"""What a handler can learn about the call that it answers."""

from __future__ import annotations

import contextvars
import dataclasses
import threading
import time

from kourou import cpython


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """Who calls.

    Attributes:
        lane: ``inproc``, ``local`` or ``grpc``.
        address: the gRPC peer, or ``pid:1234`` on the other lanes.
    """

    lane: str
    address: str


class Cancellation:
    """Tells a handler that nobody waits for its answer any more. Works like a ``threading.Event`` that one only reads.

    Args:
        deadline: ``time.monotonic()`` at which the caller gives up by itself; None for never.
    """

    __slots__ = ("_cancelled", "_event", "deadline")
    # It is held for a moment only, but a signal handler may come in that moment.
    _guard = cpython.renewed_in_children(threading.RLock())

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self._cancelled = False
        self._event: threading.Event | None = None  # made when somebody waits: most calls never do

    def is_set(self) -> bool:
        """Whether the caller cancelled, went away or ran out of time."""
        return self._cancelled or (self.deadline is not None and time.monotonic() >= self.deadline)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the call is cancelled, at most ``timeout_s`` seconds; whether it is."""
        with self._guard:
            event = self._event = self._event or threading.Event()
            if self._cancelled:
                event.set()
        if self.deadline is not None:
            left = max(0.0, self.deadline - time.monotonic())
            timeout_s = left if timeout_s is None else min(left, timeout_s)
        event.wait(timeout_s)
        return self.is_set()

    def set(self) -> None:
        """Cancel."""
        with self._guard:
            self._cancelled = True
            if self._event is not None:
                self._event.set()


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallInfo:
    """The call that the current handler answers.

    Attributes:
        method: the name that was called.
        deadline: ``time.monotonic()`` when the caller gives up; None without a time-out.
        cancelled: set once nobody waits for the answer.
        peer: who calls.
    """

    method: str
    deadline: float | None
    cancelled: Cancellation
    peer: Peer


class CallScope(Cancellation):
    """A call, as the code that answers it sees it. One object serves as both: one is made for every call."""

    __slots__ = ("name", "peer")
    name: str
    peer: Peer


call_scope: contextvars.ContextVar[CallScope | None] = contextvars.ContextVar("kourou_call", default=None)


def current_call() -> CallInfo:
    """The call that this code answers.

    Raises:
        RuntimeError: this code is not part of a handler.
    """
    scope = call_scope.get()
    if scope is None:
        raise RuntimeError("current_call() was used outside of a handler")
    return CallInfo(method=scope.name, deadline=scope.deadline, cancelled=scope, peer=scope.peer)
