"""A client's way to its server: connects when it is first needed, and again after the connection broke.

A call that may have been sent is never sent again, unless its caller said that this does no harm.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from kourou import threads
from kourou.courier.calling.connect_deadline import ConnectDeadline
from kourou.courier.calling.connection import Connection
from kourou.courier.calling.deferred import DeferredCalls
from kourou.courier.calling.reply import Reply
from kourou.courier.calling.transport import Transport
from kourou.courier.core.endpoint import Endpoint, host_id
from kourou.courier.core.target import Target, Tls
from kourou.courier.wire.codec import Payload
from kourou.courier.wire.copying import copied
from kourou.courier.wire.frames import Memory
from kourou.errors import (
    CallCancelled,
    ConnectionLost,
    DeadlineExceeded,
    LaunchError,
    NodeExited,
    ServerUnavailable,
    UsedAfterFork,
)
from kourou.waits import Blocked, waits_in

_log = logging.getLogger("kourou.courier")

LANES = ("inproc", "local", "grpc")
_FAIL_FAST_S = 5.0  # how long a client that does not wait gives a server to answer at all
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 1.0


class Link:
    """The connection of one client, shared by all of its threads.

    Args:
        target: what to call.
        wait_for_ready: wait for a server that is not there yet, instead of failing.
        lane: the only lane to use; None takes the fastest that both ends share.
        tls: whom to trust on the gRPC lane; by default as the target says, and if it says nothing, no TLS.
        memory: for what comes in bulk over the gRPC lane; nobody writes there any more when ``close`` has returned.
        interrupts: for code that has interrupted its own thread in the midst of another link.
    """

    _other: Link | None = None  # for calls that have interrupted a thread which is at work in this one

    def __init__(
        self,
        target: Target,
        *,
        wait_for_ready: bool,
        lane: str | None,
        tls: Tls | None = None,
        memory: Memory | None = None,
        interrupts: bool = False,
    ) -> None:
        if lane is not None and lane not in LANES:
            raise ValueError(f"there is no lane {lane!r}; lanes are {', '.join(LANES)}")
        self.target = target
        self.wait_for_ready = wait_for_ready
        self.forced_lane = lane
        self.tls: Tls | None = tls if tls is not None else getattr(target, "tls", None)
        self.memory = memory
        self._interrupts = interrupts
        self._connection: Connection | None = None
        self._former: dict[Connection, threading.Timer] = {}  # to servers that are gone, and what ends them
        self._inherited: Endpoint | None = None  # in a child of fork: where the parent was connected to
        self._closed = False
        self._inside: set[int] = set()  # threads that are at work in here; see ``Connection``
        self._deferred = DeferredCalls(target.name, self._inside)
        self._connecting = threading.Lock()
        _links.add(self)

    @property
    def connection(self) -> Connection | None:
        """The live connection, if there is one."""
        connection = self._connection
        return connection if connection is not None and connection.alive else None

    @waits_in(lambda here: Blocked(on=here["self"].target.name, what=here["reply"].method))
    def call(self, reply: Reply, payload: Payload, idempotent: bool) -> Any:  # noqa: FBT001 - on the path of every call
        """Make a call and wait for its answer."""
        inside, me = self._inside, threading.get_ident()
        if me in inside:
            return self._for_interrupters().call(reply, payload, idempotent)
        inside.add(me)
        try:
            while True:
                connection = self._connection
                if connection is None or not connection.alive:
                    connection = self.connect(reply.deadline, reply.method)
                try:
                    if connection.submit(reply, payload, caller_waits=True):
                        return reply.take()
                except NodeExited:
                    raise
                except ConnectionLost:
                    if not idempotent:
                        raise
                    reply = reply.again()
                except BaseException:  # Ctrl-C, most likely: the answer is not wanted any more
                    reply.cancel()
                    raise
        finally:
            inside.discard(me)

    def submit(self, reply: Reply, payload: Payload, *, idempotent: bool) -> None:
        """Make a call and do not wait, not even for a connection."""
        inside, me = self._inside, threading.get_ident()
        if me in inside:
            self._for_interrupters().submit(reply, payload, idempotent=idempotent)
            return
        if idempotent:
            reply.on_lost = lambda lost, error: self._repeat(lost, payload, error)
        connection = self._connection
        inside.add(me)
        try:
            if connection is not None and connection.alive and connection.submit(reply, payload):
                return
        finally:
            inside.discard(me)
        own = Payload(payload.body, [copied(buffer) for buffer in payload.buffers])
        self._deferred.add(reply, own, self.connect)

    def _for_interrupters(self) -> Link:
        """Another way to the server, for code that has interrupted its own thread in the midst of this one.

        It cannot wait for what that thread was about to read or to write. Whoever interrupts a thread that is at work
        on the other way gets one more.
        """
        other = self._other
        if other is None:
            wait, lane = self.wait_for_ready, self.forced_lane
            made = Link(self.target, wait_for_ready=wait, lane=lane, tls=self.tls, memory=self.memory, interrupts=True)
            other = self.__dict__.setdefault("_other", made)
            if self._closed:
                other.close()
        return other

    @waits_in(lambda here: Blocked(on=here["self"].target.name, what=here["what"], ends="another thread has connected"))
    def connect(self, deadline: float | None, what: str, limit: ConnectDeadline | None = None) -> Connection:
        """The live connection; made if there is none.

        Raises:
            ServerUnavailable: nothing answers, and this client does not wait.
            DeadlineExceeded: nothing answered before the deadline.
        """
        timeout_s = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._connecting.acquire(timeout=timeout_s):
            raise DeadlineExceeded(f"{what}: no connection to {self.target.name} before the deadline")
        try:
            if self._closed:
                raise CallCancelled(f"{what}: this client of {self.target.name} is closed")
            if self.connection is None:
                self._connection = self._connect(limit or ConnectDeadline(self.target.name, deadline), what)
                if self._closed:  # meanwhile, by another thread, which looks the other way round
                    self.close()
                    raise CallCancelled(f"{what}: the client of {self.target.name} was closed")
            connection = self._connection
            assert connection is not None  # noqa: S101 - made in the line above; for the type checker
            return connection
        finally:
            self._connecting.release()

    def hang_up(self) -> None:
        """Close the connection and nothing else: the next call makes a new one."""
        if self._other is not None:
            self._other.hang_up()
        connection = self._connection
        if connection is not None:
            connection.read_available()
            connection.end(ConnectionLost(f"the connection to {self.target.name} was closed"))

    def give_up(self, endpoint: Endpoint, after_s: float) -> None:
        """Make no more calls on the connection to a server that is gone; after so long it is ended."""
        if self._other is not None:
            self._other.give_up(endpoint, after_s)
        connection = self.connection  # without the lock: who connects holds it, and may wait for the caller's next word
        if connection is None or connection.endpoint != endpoint:
            return
        timer = threading.Timer(after_s, connection.end)
        timer.daemon = True
        self._former = {former: at for former, at in self._former.items() if former.alive} | {connection: timer}
        if self._connection is connection:
            self._connection = None
        try:
            threads.start(timer)
        except LaunchError:  # it cannot be waited for
            connection.end()

    def __del__(self, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if _is_ending():
            return  # modules have lost their names, and the system closes what is open
        for connection in (self.__dict__.get("_connection"), *self.__dict__.get("_former", ())):  # it may have none yet
            if connection is not None and connection.alive:
                connection.let_go()  # not end(): the garbage collector may run while this very thread holds its locks

    def close(self) -> None:
        """Let go; calls in flight end with ``CallCancelled``."""
        self._closed = True
        if self._other is not None:
            self._other.close()
        for timer in self._former.values():
            timer.cancel()
        for connection in (self._connection, *self._former):
            if connection is not None:
                connection.read_available()  # it may have broken before, unnoticed
                connection.end(CallCancelled(f"the client of {self.target.name} was closed"))
                if self.memory is not None:
                    connection.settle()
                _sweep(connection.endpoint)
        self._connection, self._former = None, {}  # and what is mapped of the server's memory

    # -- connecting -------------------------------------------------------------------------------------------

    @waits_in(lambda here: Blocked(since=here["limit"].since, ends="it accepts a connection"))
    def _connect(self, limit: ConnectDeadline, what: str) -> Connection:
        pause_s = _FIRST_PAUSE_S
        connection = self._open_inherited(limit)
        if connection is not None:
            return connection
        while True:
            if self._closed:
                raise CallCancelled(f"{what}: the client of {self.target.name} was closed")
            try:
                return self._open(self._endpoint(limit), limit.left_s())
            except ServerUnavailable as error:
                if not self.wait_for_ready:
                    raise
                left_s = limit.left_s()
                if left_s is not None and left_s <= pause_s:
                    name = self.target.name
                    raise DeadlineExceeded(f"{what}: {name} did not answer before the deadline: {error}") from error
                limit.warn_when_due(f" ({error})")
            time.sleep(pause_s)  # not to wait for something, but to spare a server that is just starting
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _open_inherited(self, limit: ConnectDeadline) -> Connection | None:
        """In a child of fork, asking where the server is would take gRPC, which hangs there; its socket is known."""
        endpoint, self._inherited = self._inherited, None
        if endpoint is None or endpoint.local is None or self.forced_lane not in {None, "local"}:
            return None
        with contextlib.suppress(ServerUnavailable):
            return self._open_lane("local", endpoint, limit.left_s())
        return None

    def _endpoint(self, limit: ConnectDeadline) -> Endpoint:
        """Where the server is; asks twice when that takes long, to give a warning in between."""
        if not self.wait_for_ready:
            return self.target.endpoint(limit.left_s() or _FAIL_FAST_S)
        first_s = limit.until_warning_s()
        if first_s is not None:
            try:
                return self.target.endpoint(first_s)
            except DeadlineExceeded:
                limit.warn_when_due()
        return self.target.endpoint(limit.left_s())

    def _open(self, endpoint: Endpoint, timeout_s: float | None) -> Connection:
        *others, last = [self.forced_lane] if self.forced_lane else _shared_lanes(endpoint)
        for lane in others:
            with contextlib.suppress(ServerUnavailable):
                return self._open_lane(lane, endpoint, timeout_s)
        return self._open_lane(last, endpoint, timeout_s)

    def _open_lane(self, lane: str, endpoint: Endpoint, timeout_s: float | None) -> Connection:
        target, transport = self.target, self._dial(lane, endpoint, timeout_s)
        connection = Connection(
            target.name, endpoint, transport, lambda: target.lost(endpoint), lambda: _sweep(endpoint), self._inside
        )
        transport.start(connection)  # one that pushes knows from here on where to deliver
        return connection

    def _dial(self, lane: str, endpoint: Endpoint, timeout_s: float | None) -> Transport:
        # Imported when first used: a program that stays in one process never pays for gRPC.
        token = self.target.token
        if lane == "inproc":
            from kourou.courier.lanes import inproc  # noqa: PLC0415

            return inproc.dial(endpoint, token, interrupts=self._interrupts)
        if lane == "local":
            from kourou.courier.lanes.local import client as local_lane  # noqa: PLC0415

            return local_lane.dial(endpoint, token, timeout_s)
        from kourou.courier.lanes.grpc import client as grpc_lane  # noqa: PLC0415

        return grpc_lane.dial(endpoint, token, timeout_s, self.tls, self.memory)

    def _repeat(self, reply: Reply, payload: Payload, error: Exception) -> bool:
        """Take over a call whose connection broke; False when it can only fail."""
        if self._closed or isinstance(error, NodeExited) or not isinstance(error, ConnectionLost):
            return False
        reply.connection = None
        self._deferred.add(reply, payload, self.connect)
        return True

    def forked(self) -> None:
        """In a child of fork: the connection belongs to the parent. It is left alone, and not even closed."""
        lost = self._deferred.forked()
        if self._connection is not None:
            self._inherited = self._connection.endpoint
            _parents.append(self._connection)
            lost += self._connection.unanswered()
            self._connection = None
        for former in self._former:
            _parents.append(former)
            lost += former.unanswered()
        self._former = {}
        for reply in lost:
            reply.fail(UsedAfterFork(f"{reply.method}: the parent of this process made the call, and gets the answer"))
        self._inside.clear()
        self._connecting = threading.Lock()


def _shared_lanes(endpoint: Endpoint) -> list[str]:
    """The lanes that lead to the endpoint from here, the fastest first."""
    lanes = ["grpc"]
    if endpoint.host_id == host_id():
        if endpoint.local is not None:
            lanes.insert(0, "local")
        if endpoint.pid == os.getpid():
            lanes.insert(0, "inproc")
    return lanes


def _sweep(endpoint: Endpoint) -> None:
    """A server that was killed could not remove its socket; whoever notices does."""
    if endpoint.local is not None and endpoint.host_id == host_id():
        from kourou.courier.lanes.local import socket_file  # noqa: PLC0415 - exists where there is a local lane

        socket_file.sweep(endpoint.local, endpoint.pid)


_links: weakref.WeakSet[Link] = weakref.WeakSet()
_parents: list[Connection] = []  # kept for ever: to finalise them would close what the parent uses


def _forget_after_fork() -> None:
    for link in list(_links):
        link.forked()


os.register_at_fork(after_in_child=_forget_after_fork)
