"""Calls that nobody waits for, until there is a connection for them."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from kourou import threads
from kourou.courier.calling.connect_deadline import ConnectDeadline
from kourou.courier.calling.connection import Connection
from kourou.courier.calling.reentrancy import Entered
from kourou.courier.calling.reply import Reply
from kourou.courier.wire.codec import Payload
from kourou.errors import DeadlineExceeded, ServerUnavailable

Connect: TypeAlias = Callable[[float | None, str, ConnectDeadline], Connection]
"""Gives the connection, or makes it: until a deadline, for a method that is named."""

_LONGEST_ATTEMPT_S = 1.0  # to connect for such calls, before their deadlines are looked at again


class DeferredCalls:
    """Sends them in their order, by a thread that lives for as long as there are some."""

    def __init__(self, name: str, inside: set[int]) -> None:
        self._name = name
        self._inside = inside
        self._calls: deque[tuple[Reply, Payload]] = deque()
        self._sending = threading.Lock()

    def add(self, reply: Reply, payload: Payload, connect: Connect) -> None:
        """Send a call when there is a connection; the memory of its buffers has to stay as it is."""
        reply.server = self._name
        self._calls.append((reply, payload))
        if self._sending.acquire(blocking=False):
            thread = threading.Thread(target=self._send_all, args=(connect,), name="kourou-connect", daemon=True)
            try:
                threads.start(thread)
            except RuntimeError as error:  # the system has no more threads, or the interpreter is shutting down
                why = f"no thread can be started to connect: {error}"
                self._each(lambda: self._refuse_first(why))

    def forked(self) -> list[Reply]:
        """In a child of fork: forget the parent's calls, which are returned."""
        lost = [reply for reply, _ in self._calls]
        self._calls.clear()
        self._sending = threading.Lock()
        return lost

    def _send_all(self, connect: Connect) -> None:
        """Connect for the calls that wait for it, then send them in their order. What fails, fails for its call."""
        limit = ConnectDeadline(self._name, None)
        connection: Connection | None = None

        def send() -> None:
            nonlocal connection
            if connection is None or not connection.alive:
                connection = self._connect_for_some(connect, limit)
            if connection is not None:
                self._send_first(connection)

        with Entered(self._inside):
            self._each(send)

    def _each(self, take: Callable[[], None]) -> None:
        """By who has the turn to send: see to the calls as long as there are some, those that come meanwhile, too."""
        while True:
            while self._calls:
                take()
            self._sending.release()
            if not self._calls or not self._sending.acquire(blocking=False):
                return

    def _refuse_first(self, why: str) -> None:
        reply, _ = self._calls.popleft()
        _end(reply, ServerUnavailable(f"{reply.method}: {why}"))

    def _send_first(self, connection: Connection) -> None:
        call = self._calls[0]
        try:
            if call[0].waits and not connection.submit(*call):
                return  # it broke: once more
            call[0].wake()
            if call[0].watched:
                connection.watch()
        except BaseException as error:  # noqa: BLE001 - whatever the call raises belongs to the call
            _end(call[0], error)
        self._calls.remove(call)

    def _connect_for_some(self, connect: Connect, limit: ConnectDeadline) -> Connection | None:
        """The connection; None if it took too long for one of the calls that wait, which has ended then."""
        waiting = tuple(self._calls)  # in one step: others add to it meanwhile
        call = min(waiting, key=lambda one: one[0].deadline or math.inf)  # the first to give up
        deadline = call[0].deadline or math.inf
        # One with less time may come meanwhile.
        limit.deadline = min(deadline, time.monotonic() + _LONGEST_ATTEMPT_S)
        try:
            if call[0].waits:
                return connect(limit.deadline, call[0].method, limit)
        except BaseException as error:  # noqa: BLE001 - whatever the target raises belongs to the call
            if isinstance(error, DeadlineExceeded) and time.monotonic() < deadline:
                return None  # once more
            _end(call[0], error)
        self._calls.remove(call)
        return None


def _end(reply: Reply, error: BaseException) -> None:
    if reply.fail(error):
        reply.notify()
