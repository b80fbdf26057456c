"""All connections of a server, and the calls that are not answered yet."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from kourou.courier.serving.call import Caller, RunningCall
from kourou.courier.serving.handlers import Handlers
from kourou.courier.serving.methods import MethodMetrics
from kourou.errors import RpcError


class Dispatcher:
    """The server, as its lanes see it.

    Args:
        handlers: what its clients call.
        refusal: the error for calls that a server which stops does not answer; None: nothing is said.
    """

    def __init__(self, handlers: Handlers, refusal: Callable[[str], RpcError | None]) -> None:
        self.handlers = handlers
        self.stopping = False
        self.leaves_unanswered = False
        """A call ends as its connection does, and whoever made it finds out why."""
        self._refusal = refusal
        self._callers: set[Caller] = set()
        self._lock = threading.RLock()  # held for a moment, in which a signal handler may come

    def open(self, caller: Caller) -> None:
        """A connection came."""
        with self._lock:
            self._callers.add(caller)

    def close(self, caller: Caller) -> None:
        """A connection is gone."""
        with self._lock:
            self._callers.discard(caller)

    def running(self) -> list[RunningCall]:
        """The calls that are not answered yet."""
        with self._lock:
            callers = list(self._callers)
        return [call for caller in callers for call in list(caller.calls.values())]

    def metrics(self) -> dict[str, MethodMetrics]:
        """What happened to each method."""
        in_flight = Counter(call.method for call in self.running())
        return {method.name: method.metrics(in_flight[method]) for method in self.handlers.methods.all()}

    def refusal(self, text: str) -> RpcError | None:
        """The answer to a call that a server which stops does not carry out; None: it gets none."""
        error = self._refusal(text)
        self.leaves_unanswered |= error is None
        return error

    def fail_all(self, reason: str) -> None:
        """Answer every open call with the refusal, if there is one, and tell the handlers; they may run on, unheard."""
        for call in self.running():
            error = self.refusal(f"{call.name} of {self.handlers.name}: {reason}")
            if error is None:
                call.drop()
            else:
                call.set()
                call.fail(error)
        self.handlers.end_loop()
