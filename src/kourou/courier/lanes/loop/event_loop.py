"""One thread that serves all connections of a server, whatever their lane.

The leader reads, runs short handlers itself, and writes the answers of a batch together, so that a call costs no
change of threads. When a handler keeps the leader busy for longer than a moment, a watchman deposes it: a new leader
goes on with everything else, and the old one only finishes its handler. The handler's method is then known to be slow,
and runs in the pool from there on.
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

from kourou.courier.core.background import ROUND_S, Patrol
from kourou.courier.lanes.busy_wait import Spinner
from kourou.courier.lanes.loop.acceptor import Entrance, ServedConnection, Welcome
from kourou.courier.lanes.loop.poller import readiness
from kourou.courier.lanes.loop.quota import Strangers
from kourou.courier.serving.execution import enqueue, run
from kourou.courier.serving.workers import WorkerPool
from kourou.errors import ProtocolError, Unauthenticated

__all__ = ["Leader"]

_log = logging.getLogger("kourou.courier")

_HOUSEKEEPING_S = 10.0  # how often connections are looked over
_STRANGERS_S = 1.0  # how often if there are strangers
_SHUT_S = 0.1  # how often if no more can come in
_SETTLE_POLL_S = 2e-3
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Leader:
    """Serves those who connect.

    Args:
        pool: in which handlers run; the leader takes slots of it.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._entrances: dict[int, Entrance] = {}
        self._connections: dict[int, ServedConnection] = {}
        self._unserved: deque[ServedConnection] = deque()  # have frames that were read but not acted on
        self._ready = readiness()
        self._spinner = Spinner(self._ready.poll)
        self._alarm, self._bell = socket.socketpair()
        self._guard = threading.Lock()
        self._term = 0  # counts the leaders
        self._busy_since: float | None = None
        self._served = self._seen = 0
        self._stopped = False
        self._kept_house = time.monotonic()
        self._watchman = Patrol(self._watch, "kourou-watchman")
        self._ready.register(self._alarm.fileno(), select.POLLIN)
        self._install()

    def listen(self, listener: socket.socket, welcome: Welcome) -> None:
        """Serve those who connect here, too. The socket belongs to this object from now on."""
        entrance = Entrance(listener, welcome, self._ready)
        self._entrances = {**self._entrances, listener.fileno(): entrance}  # a new one: the leader may be iterating
        entrance.open()  # now that the leader finds it

    def stop(self, flush_s: float = 0.0) -> None:
        """Send what is queued, as far as clients take it within ``flush_s`` seconds, and close everything."""
        with self._guard:
            if self._stopped:
                return
            self._stopped = True
            self._term += 1
            stuck = self._busy_since is not None  # then the leader will not look at the sockets again, whenever it ends
        self._watchman.stop()
        self._bell.send(b"!")
        if not stuck and self._thread is not threading.current_thread():
            self._thread.join()
        entrances, self._entrances = self._entrances, {}
        for entrance in entrances.values():
            with contextlib.suppress(OSError):
                entrance.listener.shutdown(socket.SHUT_RDWR)  # a child of fork may have it open, too
            entrance.listener.close()
        self._settle(time.monotonic() + flush_s)
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._ready.close()
        self._alarm.close()
        self._bell.close()

    def _settle(self, deadline: float) -> None:
        """Let clients take what is queued for them, none at the cost of another."""
        unsettled = [connection for connection in self._connections.values() if not connection.settle()]
        while unsettled and time.monotonic() < deadline:
            time.sleep(_SETTLE_POLL_S)
            unsettled = [connection for connection in unsettled if not connection.settle()]

    # -- the leader -------------------------------------------------------------------------------------------

    def _install(self) -> None:
        thread = threading.Thread(target=self._lead, args=(self._term,), name="kourou-leader", daemon=True)
        thread.start()
        self._thread = thread

    def _replace(self) -> None:
        """With the guard held: let another thread go on, if the system has one. The watchman tries again if not."""
        self._term += 1
        try:
            self._install()
        except RuntimeError:
            self._term -= 1
        else:
            self._busy_since = None

    def _lead(self, term: int) -> None:
        """Serve until deposed."""
        ident = threading.get_ident()
        for connection in list(self._connections.values()):
            connection.leader = ident
            connection.flush()
        while True:
            while self._unserved:
                if not self._serve(self._unserved[0], term):
                    return
            if self._term != term:
                return
            events = self._spinner.spin() or self._ready.poll(self._patience_s())
            if self._term != term:
                return
            for descriptor, mask in events:
                self._event(descriptor, mask)
            self._housekeeping()

    def _patience_s(self) -> float:
        """How long nothing may happen until housekeeping."""
        return self._round_s() if self._connections or any(each.is_shut for each in self._entrances.values()) else -1

    def _round_s(self) -> float:
        """How often housekeeping is due."""
        entrances = self._entrances.values()
        if any(entrance.is_shut for entrance in entrances):
            return _SHUT_S
        return _STRANGERS_S if any(entrance.strangers for entrance in entrances) else _HOUSEKEEPING_S

    def _serve(self, connection: ServedConnection, term: int) -> bool:
        """Act on the frames that a connection has sent. False when this thread is not the leader any more."""
        frames = connection.frames
        session = connection.session
        assert session is not None  # noqa: S101 - frames come after the greeting; for the type checker
        pool = self._pool
        connection.serving = True
        has_slot = pool.try_enter()  # one for the whole batch: it is over in a moment, or this thread is deposed
        try:
            while frames and not connection.is_congested:
                call = session.accept(frames.popleft())
                if call is None:
                    continue
                if not has_slot or call.method.trust < 0:
                    enqueue(call)
                    continue
                with self._guard:
                    if self._term != term:
                        return False  # the server has stopped; the call ends with its connection
                    self._busy_since = time.monotonic()
                self._watchman.call()  # after the mark was made: a watchman who falls asleep looks once more
                run(call)
                with self._guard:
                    if self._term != term:  # deposed meanwhile: the mark is the next leader's
                        connection.flush()
                        return False
                    self._busy_since = None
        except Exception as error:  # noqa: BLE001 - one client's trouble must not end the leader
            with self._guard:
                if self._term != term:
                    return False  # the connection is the next leader's
                self._busy_since = None
            frames.clear()
            self._fail(connection, error)
        finally:
            self._served += 1
            if has_slot:
                pool.leave()
        self._unserved.popleft()
        connection.serving = False
        connection.flush()
        return True

    def _event(self, descriptor: int, mask: int) -> None:
        """There is something to read, or room to write; or somebody who wants to connect."""
        connection = self._connections.get(descriptor)
        if connection is None:
            if descriptor in self._entrances:
                self._accept(self._entrances[descriptor])
            return  # else it is the alarm, or a connection that was dropped a moment ago
        try:
            if mask & select.POLLOUT:
                connection.drain()
            if mask & ~select.POLLOUT:
                if connection.session is not None:
                    connection.read()
                else:
                    is_ours = connection.greet()
                    if connection.session is not None or not is_ours:
                        self._is_no_stranger(connection)
                    if not is_ours:
                        self._connections.pop(descriptor, None)
                        return
            if connection.frames and not connection.is_congested and connection not in self._unserved:
                self._unserved.append(connection)
        except Exception as error:  # noqa: BLE001 - one client's trouble must not end the leader
            self._fail(connection, error)

    def _accept(self, entrance: Entrance) -> None:
        try:
            accepted, address = entrance.listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                for each in self._entrances.values():
                    each.shut()
                self._kept_house = time.monotonic()
            return  # else the client has gone
        host = str(address[0]) if isinstance(address, tuple) else ""
        if not self._has_room(entrance.strangers, host):
            accepted.close()
            return
        try:
            connection = entrance.welcome(accepted, self._ready, threading.get_ident())
            if connection is not None:
                self._ready.register(connection.descriptor, select.POLLIN)
                self._connections[connection.descriptor] = connection
                entrance.strangers.add(connection, host)
                if entrance.strangers.is_full:
                    entrance.shut()
        except Exception as error:  # noqa: BLE001 - one client's trouble must not end the leader
            accepted.close()
            if not isinstance(error, OSError):
                _log.exception("a client could not be welcomed")

    def _has_room(self, strangers: Strangers[ServedConnection], host: str) -> bool:
        """Whether one more of a host may come in, once those have gone who have been there for too long."""
        if strangers.has_share(host):
            for stranger in strangers.overdue(of_host=host, others_wait=True):
                self._drop(stranger)
        return not strangers.has_share(host)

    def _is_no_stranger(self, connection: ServedConnection) -> None:
        for entrance in self._entrances.values():
            entrance.forget(connection)

    def _fail(self, connection: ServedConnection, error: Exception) -> None:
        """It makes no sense, or is gone; or this is an error of ours."""
        if isinstance(error, ProtocolError | Unauthenticated):
            if connection.refuse(error):
                self._drop(connection)
            return
        if not isinstance(error, OSError):
            _log.error("a connection was closed", exc_info=error)
        self._drop(connection)

    def _drop(self, connection: ServedConnection) -> None:
        self._connections.pop(connection.descriptor, None)
        connection.close()
        self._is_no_stranger(connection)

    def _housekeeping(self) -> None:
        """Now and then: send strangers away who do not greet, and look after the others."""
        now = time.monotonic()
        if now - self._kept_house < self._round_s():
            return
        self._kept_house = now
        for entrance in self._entrances.values():
            for stranger in entrance.strangers.overdue(others_wait=entrance.is_shut):
                self._drop(stranger)
        for connection in list(self._connections.values()):
            try:
                if connection.session is not None:
                    connection.tend()
            except Exception as error:  # noqa: BLE001 - one client's trouble must not end the leader
                self._fail(connection, error)
        for entrance in self._entrances.values():
            entrance.open()

    # -- the watchman -----------------------------------------------------------------------------------------

    def _watch(self) -> float | None:
        """Depose a leader that is stuck in a handler."""
        for connection in list(self._connections.values()):
            if connection.owes and self._busy_since is None:
                connection.flush()
        active = self._served != self._seen
        self._seen = self._served
        since = self._busy_since
        if since is None:
            return ROUND_S if active else None
        if time.monotonic() - since >= ROUND_S:
            with self._guard:
                if self._busy_since == since and not self._stopped:
                    self._replace()
        return ROUND_S
