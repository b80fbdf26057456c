"""One thread that serves all connections of a server, whatever their lane.

It reads, runs short handlers itself, and writes the answers of a batch together, so that a call costs no change of
threads. When a handler keeps it busy for longer than a moment, a watchdog replaces the thread: a new one goes on with
everything else, and the old one only finishes its handler. The handler's method is then known to be slow, and runs in
the pool from there on.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from kourou import threads
from kourou.courier.core.background import TICK_S, BackgroundLoop
from kourou.courier.lanes.busy_wait import BusyWait
from kourou.courier.lanes.loop.acceptor import Acceptor, ConnectionFactory, ServedConnection
from kourou.courier.lanes.loop.poller import new_poller
from kourou.courier.lanes.loop.quota import ConnectionQuota
from kourou.courier.serving.call import RunningCall
from kourou.courier.serving.execution import enqueue, run
from kourou.courier.serving.workers import WorkerPool
from kourou.errors import ProtocolError, Unauthenticated
from kourou.limits import with_remedy

_log = logging.getLogger("kourou.courier")

_HOUSEKEEPING_S = 10.0  # how often connections are looked over
_UNAUTHENTICATED_S = 1.0  # how often if some have not shown the token
_PAUSED_S = 0.1  # how often if no more are accepted
_FLUSH_POLL_S = 2e-3
_READ_BYTES = 4096
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class EventLoop:
    """Serves those who connect."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._acceptors: dict[int, Acceptor] = {}
        self._connections: dict[int, ServedConnection] = {}
        self._runnable: deque[ServedConnection] = deque()  # have frames that were read but not acted on
        self._poller = new_poller()
        self._busy_wait = BusyWait(self._poller.poll)
        self._wakeup_r, self._wakeup_w = socket.socketpair()
        self._wakeup_r.setblocking(False)
        self._wakeup_w.setblocking(False)
        self._posted: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._generation = 0  # counts the threads that have run the loop
        self._handlers: dict[RunningCall, float] = {}  # that the thread is in, since when; who takes one out has it
        self._unmanned = False  # a thread was replaced, but the system had none
        self._served = self._seen = 0
        self._stopped = False
        self._told_exhausted = False
        self._kept_house = time.monotonic()
        self._watchdog = BackgroundLoop(self._watchdog_tick, "kourou-watchdog")
        self._poller.register(self._wakeup_r.fileno(), select.POLLIN)
        self._start_thread()

    def call_soon(self, call: Callable[[], None]) -> None:
        """Let the thread make a call that does not wait. For any thread, whatever locks it has: takes none."""
        self._posted.append(call)
        self._wake()

    def listen(
        self, listener: socket.socket, make_connection: ConnectionFactory, max_unauthenticated: int | None = None
    ) -> None:
        """Serve those who connect here, too."""
        acceptor = Acceptor(listener, make_connection, self._poller, max_unauthenticated)
        self._acceptors = {**self._acceptors, listener.fileno(): acceptor}  # a new dict: the thread may be iterating

    def stop(self, flush_s: float = 0.0) -> None:
        """Send what is queued, as far as clients take it within ``flush_s`` seconds, and close everything."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self._generation += 1
            stuck = self._unmanned or bool(self._handlers)  # then its thread will not look at the sockets again
        self._watchdog.stop()
        self._wake()
        if not stuck and self._thread is not threading.current_thread():
            self._thread.join()
        acceptors, self._acceptors = self._acceptors, {}
        for acceptor in acceptors.values():
            with contextlib.suppress(OSError):
                acceptor.listener.shutdown(socket.SHUT_RDWR)  # a child of fork may have it open, too
            acceptor.listener.close()
        self._flush_all(time.monotonic() + flush_s)
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._poller.close()
        self._wakeup_r.close()
        self._wakeup_w.close()

    def _flush_all(self, deadline: float) -> None:
        """Let clients take what is queued for them, none at the cost of another."""
        unflushed = [connection for connection in self._connections.values() if not connection.try_flush()]
        while unflushed and time.monotonic() < deadline:
            time.sleep(_FLUSH_POLL_S)
            unflushed = [connection for connection in unflushed if not connection.try_flush()]

    # -- the thread -------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, args=(self._generation,), name="kourou-event-loop", daemon=True)
        threads.start(thread)
        self._thread = thread

    def _replace_thread(self) -> None:
        """With the lock held: let another thread go on, as soon as the system has one. The watchdog tries again."""
        self._generation += not self._unmanned
        self._unmanned = True
        with contextlib.suppress(RuntimeError):
            self._start_thread()
            self._unmanned = False

    def _run(self, generation: int) -> None:
        """Serve until replaced."""
        ident = threading.get_ident()
        for connection in list(self._connections.values()):
            connection.loop_thread = ident
            self._flush(connection)
        while True:
            while self._runnable:
                if not self._serve(self._runnable[0], generation):
                    return
            if self._generation != generation:
                return
            self._housekeeping()  # once those who call have their answers
            # Nobody waits for an answer as long as nobody is connected.
            soon = self._busy_wait.poll() if self._connections else ()
            events = soon or self._poller.poll(self._poll_timeout_s())
            if self._generation != generation:
                return
            for descriptor, mask in events:
                self._event(descriptor, mask)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is about to wake, or has stopped
            self._wakeup_w.send(b"!")

    def _make_calls(self) -> None:
        self._wakeup_r.recv(_READ_BYTES)
        for _ in range(len(self._posted)):  # those that they lead to come after what has happened meanwhile
            try:
                self._posted.popleft()()
            except Exception:  # noqa: BLE001 - one call's trouble must not end the event loop
                _log.exception("a call in the event loop failed")

    def _poll_timeout_s(self) -> float:
        """How long nothing may happen until housekeeping."""
        due_s = self._housekeeping_s()
        return due_s if self._connections or due_s == _PAUSED_S else -1

    def _housekeeping_s(self) -> float:
        """How often housekeeping is due."""
        acceptors = self._acceptors.values()
        if any(acceptor.is_paused for acceptor in acceptors):
            return _PAUSED_S
        return _UNAUTHENTICATED_S if any(acceptor.unauthenticated for acceptor in acceptors) else _HOUSEKEEPING_S

    def _serve(self, connection: ServedConnection, generation: int) -> bool:
        """Act on the frames that a connection has sent. False when another thread runs the loop now.

        Without a lock, as for every call: a handler that the thread is in is marked, and then the generation is looked
        at; whoever stops the loop does it the other way round, so one of two sees both.
        """
        frames = connection.frames
        session = connection.session
        assert session is not None  # noqa: S101 - frames come after the greeting; for the type checker
        pool, handlers = self._pool, self._handlers
        connection.serving = True
        has_slot = pool.try_enter()  # one for the whole batch: it is over in a moment, or this thread is replaced
        try:
            while frames and not connection.is_congested:
                call = session.accept(frames.popleft())
                if call is None:
                    continue
                if not has_slot or call.method.trust < 0 or call.method.is_coroutine_function:
                    enqueue(call)
                    continue
                handlers[call] = time.monotonic()
                if self._generation != generation:
                    del handlers[call]
                    return False  # the server has stopped; the call ends with its connection
                self._watchdog.wake()  # after the mark was made: before it sleeps, the watchdog looks once more
                connection.serving = bool(frames)  # the last one's answer is on its way before its books are closed
                run(call)
                if handlers.pop(call, None) is None or self._generation != generation:  # replaced meanwhile, or stopped
                    connection.flush()
                    return False
        except Exception as error:  # noqa: BLE001 - one client's trouble must not end the event loop
            with self._lock:  # as the watchdog, which takes the mark and counts up together
                if self._generation != generation:
                    return False  # the connection is the next thread's
                handlers.clear()  # a mark that stayed would have a thread replaced that is in no handler
            frames.clear()
            self._on_error(connection, error)
        finally:
            self._served += 1
            if has_slot:
                pool.leave()
        self._runnable.popleft()
        connection.serving = False
        self._flush(connection)
        return True

    def _flush(self, connection: ServedConnection) -> None:
        try:
            connection.flush()
        except Exception as error:  # noqa: BLE001 - one client's trouble must not end the event loop
            self._on_error(connection, error)

    def _event(self, descriptor: int, mask: int) -> None:
        """There is something to read, or room to write; or somebody who wants to connect."""
        connection = self._connections.get(descriptor)
        if connection is None:
            self._event_of_ours(descriptor)
            return
        try:
            if mask & select.POLLOUT:
                connection.drain()
            if mask & ~select.POLLOUT:
                if connection.is_authenticated:
                    connection.read()
                else:
                    is_ours = connection.read_greeting()
                    if connection.is_authenticated or not is_ours:
                        self._release(connection)
                    if not is_ours:
                        self._connections.pop(descriptor, None)
                        return
            if connection.frames and not connection.is_congested and connection not in self._runnable:
                self._runnable.append(connection)
        except Exception as error:  # noqa: BLE001 - one client's trouble must not end the event loop
            self._on_error(connection, error)

    def _event_of_ours(self, descriptor: int) -> None:
        if descriptor in self._acceptors:
            self._accept(self._acceptors[descriptor])
        elif descriptor == self._wakeup_r.fileno():
            self._make_calls()
        # else it is a connection that was dropped a moment ago

    def _pause(self, exhausted: OSError) -> None:
        """Accept nobody until housekeeping. Those who connect wait, and do not know for what, so that is told here."""
        if not self._told_exhausted:
            self._told_exhausted = True
            _log.warning("no more connections can be accepted for now: %s", with_remedy(exhausted))
        for each in self._acceptors.values():
            each.pause()
        self._kept_house = time.monotonic()

    def _accept(self, acceptor: Acceptor) -> None:
        try:
            accepted, address = acceptor.listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._pause(error)
            return  # else the client has gone
        host = str(address[0]) if isinstance(address, tuple) else ""
        if not self._has_room(acceptor.unauthenticated, host):
            accepted.close()
            return
        connection: ServedConnection | None = None
        try:
            connection = acceptor.make_connection(accepted, self._poller, threading.get_ident())
            if connection is not None:
                self._poller.register(connection.descriptor, select.POLLIN)
                self._connections[connection.descriptor] = connection
                acceptor.unauthenticated.add(connection, host)
                if acceptor.unauthenticated.is_full:
                    acceptor.pause()
        except Exception as error:  # noqa: BLE001 - one client's trouble must not end the event loop
            accepted.close()
            if connection is not None:
                self._drop(connection)
            if not isinstance(error, OSError):
                _log.exception("a client could not be accepted")

    def _has_room(self, unauthenticated: ConnectionQuota[ServedConnection], host: str) -> bool:
        """Whether one more of a host may come in, once those have gone who have been there for too long."""
        if unauthenticated.host_is_full(host):
            for connection in unauthenticated.overdue(of_host=host, others_wait=True):
                self._drop(connection)
        return not unauthenticated.host_is_full(host)

    def _release(self, connection: ServedConnection) -> None:
        for acceptor in self._acceptors.values():
            acceptor.release(connection)

    def _on_error(self, connection: ServedConnection, error: Exception) -> None:
        """It makes no sense, or is gone; or this is an error of ours."""
        if isinstance(error, ProtocolError | Unauthenticated):
            try:
                if not connection.refuse(error):
                    return
            except Exception as further:  # noqa: BLE001 - see above
                error = further
        if not isinstance(error, OSError | ProtocolError | Unauthenticated):
            _log.error("a connection was closed", exc_info=error)
        self._drop(connection)

    def _drop(self, connection: ServedConnection) -> None:
        self._connections.pop(connection.descriptor, None)
        connection.close()
        self._release(connection)

    def _housekeeping(self) -> None:
        """Now and then: drop clients that do not authenticate, and look after the others."""
        now = time.monotonic()
        idle_s = now - self._kept_house
        if idle_s < _PAUSED_S or idle_s < self._housekeeping_s():
            return
        self._kept_house = now
        for acceptor in self._acceptors.values():
            for connection in acceptor.unauthenticated.overdue(others_wait=acceptor.is_paused):
                self._drop(connection)
        for connection in list(self._connections.values()):
            try:
                if connection.is_authenticated:
                    connection.housekeep()
            except Exception as error:  # noqa: BLE001 - one client's trouble must not end the event loop
                self._on_error(connection, error)
        for acceptor in self._acceptors.values():
            acceptor.resume()

    # -- the watchdog -----------------------------------------------------------------------------------------

    def _watchdog_tick(self) -> float | None:
        """Replace the thread if it is stuck in a handler."""
        for connection in list(self._connections.values()):
            if connection.needs_flush and not self._handlers:
                connection.flush()
        active = self._served != self._seen
        self._seen = self._served
        busy = list(self._handlers.copy().items())
        if not busy and not self._unmanned:
            return TICK_S if active else None
        stuck = any(time.monotonic() - since >= TICK_S for _, since in busy)
        with self._lock:
            if not self._stopped and (self._unmanned or (stuck and self._handlers.pop(busy[0][0], None) is not None)):
                self._replace_thread()
        return TICK_S
